package export

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/krib-ai/krib/schemas"
)

// A row group is written when it has so many rows or so many bytes of values: the
// writer holds one in memory, and readers skip by them.
const (
	groupRows  = 20_000
	groupBytes = 16 << 20
)

// An envelope is the columns that every topic has. Value is the whole value as
// JSON; typed columns beside it are made from it, so redaction holds for both.
type envelope struct {
	Topic     string     `parquet:"topic,dict"`
	Partition int32      `parquet:"partition"`
	Offset    int64      `parquet:"offset"`
	Timestamp time.Time  `parquet:"timestamp,timestamp(microsecond)"`
	Key       string     `parquet:"key"`
	ID        string     `parquet:"ce_id,optional"`
	Type      string     `parquet:"ce_type,optional,dict"`
	Time      *time.Time `parquet:"ce_time,timestamp(microsecond)"`
	// A string or bytes here would be written with a level too many, and the file is
	// not readable then: parquet-go 0.32 marks an optional JSON column twice.
	Value json.RawMessage `parquet:"value,optional,json"`
	Raw   []byte          `parquet:"value_raw,optional"`
}

// A bookingRow is a record of booking.events. Amounts are in minor units of the
// currency beside them. Every column may be null: a record may have no value.
type bookingRow struct {
	envelope

	EventID        string     `parquet:"event_id,optional"`
	EventType      string     `parquet:"event_type,optional,dict"`
	Version        *int64     `parquet:"version,optional"`
	OccurredAt     *time.Time `parquet:"occurred_at,timestamp(microsecond)"`
	ActorKind      string     `parquet:"actor_kind,optional,dict"`
	ActorID        string     `parquet:"actor_id,optional,dict"`
	PreviousStatus string     `parquet:"previous_status,optional,dict"`
	Reminder       string     `parquet:"reminder,optional,dict"`
	AutoApproved   *bool      `parquet:"auto_approved,optional"`
	HostWebhooks   *bool      `parquet:"host_webhooks,optional"`

	BookingID          string     `parquet:"booking_id,optional"`
	AgentID            string     `parquet:"agent_id,optional,dict"`
	HostID             string     `parquet:"host_id,optional,dict"`
	PropertyID         string     `parquet:"property_id,optional,dict"`
	PropertyTitle      string     `parquet:"property_title,optional,dict"`
	PropertyAddress    string     `parquet:"property_address,optional,dict"`
	PropertyCity       string     `parquet:"property_city,optional,dict"`
	PropertyState      string     `parquet:"property_state,optional,dict"`
	Status             string     `parquet:"status,optional,dict"`
	CheckIn            *int32     `parquet:"check_in,optional,date"`
	CheckOut           *int32     `parquet:"check_out,optional,date"`
	Nights             *int32     `parquet:"nights,optional"`
	Guests             *int32     `parquet:"guests,optional"`
	GuestFirstName     string     `parquet:"guest_first_name,optional"`
	GuestLastName      string     `parquet:"guest_last_name,optional"`
	GuestEmail         string     `parquet:"guest_email,optional"`
	GuestPhone         string     `parquet:"guest_phone,optional"`
	GuestCountryCode   string     `parquet:"guest_country_code,optional,dict"`
	SpecialRequests    string     `parquet:"special_requests,optional"`
	TotalAmountMinor   *int64     `parquet:"total_amount_minor,optional"`
	Currency           string     `parquet:"currency,optional,dict"`
	PaymentMethod      string     `parquet:"payment_method,optional,dict"`
	PaymentStatus      string     `parquet:"payment_status,optional,dict"`
	CreatedAt          *time.Time `parquet:"created_at,timestamp(microsecond)"`
	UpdatedAt          *time.Time `parquet:"updated_at,timestamp(microsecond)"`
	ExpiresAt          *time.Time `parquet:"expires_at,timestamp(microsecond)"`
	ConfirmedAt        *time.Time `parquet:"confirmed_at,timestamp(microsecond)"`
	CancelledAt        *time.Time `parquet:"cancelled_at,timestamp(microsecond)"`
	CancellationReason string     `parquet:"cancellation_reason,optional,dict"`

	PaidBy          string     `parquet:"payment_event_method,optional,dict"`
	PaidAmountMinor *int64     `parquet:"payment_event_amount_minor,optional"`
	PaidCurrency    string     `parquet:"payment_event_currency,optional,dict"`
	PaidReference   string     `parquet:"payment_event_reference,optional"`
	PaidAt          *time.Time `parquet:"payment_event_at,timestamp(microsecond)"`
	PaidProvider    string     `parquet:"payment_event_provider,optional,dict"`
	PaidTotalMinor  *int64     `parquet:"payment_event_paid_total_minor,optional"`
}

// An attemptRow is a record of webhook.attempts.
type attemptRow struct {
	envelope

	DeliveryID        string     `parquet:"delivery_id,optional"`
	EventID           string     `parquet:"event_id,optional"`
	EventType         string     `parquet:"event_type,optional,dict"`
	SubscriptionID    string     `parquet:"subscription_id,optional,dict"`
	AgentID           string     `parquet:"agent_id,optional,dict"`
	BookingID         string     `parquet:"booking_id,optional"`
	Run               *int64     `parquet:"run,optional"`
	Number            *int32     `parquet:"number,optional"`
	Trigger           string     `parquet:"trigger,optional,dict"`
	StartedAt         *time.Time `parquet:"started_at,timestamp(microsecond)"`
	DurationMS        *int64     `parquet:"duration_ms,optional"`
	Outcome           string     `parquet:"outcome,optional,dict"`
	Final             *bool      `parquet:"final,optional"`
	Status            *int32     `parquet:"status,optional"`
	ErrorClass        string     `parquet:"error_class,optional,dict"`
	Error             string     `parquet:"error,optional,dict"`
	ResponseBody      string     `parquet:"response_body,optional"`
	NextAttemptAt     *time.Time `parquet:"next_attempt_at,timestamp(microsecond)"`
	DeliveryCreatedAt *time.Time `parquet:"delivery_created_at,timestamp(microsecond)"`
}

// Parquet writes a Parquet file.
type Parquet[T any] struct {
	w     *parquet.GenericWriter[T]
	row   func(*Record) T
	rows  int
	bytes int
}

// NewParquet makes a writer of the columns that the topic has: its own beside the
// common ones for booking.events and webhook.attempts, the common ones for others.
func NewParquet(w io.Writer, topic string) Writer {
	switch topic {
	case string(schemas.BookingEvents):
		return newParquet(w, bookingRowOf)
	case string(schemas.Attempts):
		return newParquet(w, attemptRowOf)
	}
	return newParquet(w, envelopeOf)
}

func newParquet[T any](w io.Writer, row func(*Record) T) *Parquet[T] {
	return &Parquet[T]{w: parquet.NewGenericWriter[T](w, parquet.Compression(&zstd.Codec{})), row: row}
}

// Write adds a row, and ends the row group when it is full.
func (p *Parquet[T]) Write(r *Record) error {
	if _, err := p.w.Write([]T{p.row(r)}); err != nil {
		return fmt.Errorf("writing a row: %w", err)
	}
	p.rows++
	p.bytes += len(r.Value) + len(r.Raw)
	if p.rows < groupRows && p.bytes < groupBytes {
		return nil
	}
	p.rows, p.bytes = 0, 0
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("writing a row group: %w", err)
	}
	return nil
}

// Close writes the last row group and the footer, without which there is no file.
func (p *Parquet[T]) Close() error {
	if err := p.w.Close(); err != nil {
		return fmt.Errorf("writing the footer: %w", err)
	}
	return nil
}

func envelopeOf(r *Record) envelope {
	e := envelope{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, ID: r.Headers["ce_id"], Type: r.Headers["ce_type"],
		Value: r.Value, Raw: r.Raw,
	}
	if t, err := time.Parse(time.RFC3339Nano, r.Headers["ce_time"]); err == nil {
		e.Time = new(t.UTC())
	}
	return e
}

// decoded is nil for a value that is none of the topic's: its columns are null then.
func decoded[T any](v json.RawMessage) *T {
	if v == nil {
		return nil
	}
	t, err := schemas.Decode[T](v)
	if err != nil {
		return nil
	}
	return &t
}

func bookingRowOf(r *Record) bookingRow {
	row := bookingRow{envelope: envelopeOf(r)}
	e := decoded[schemas.Event](r.Value)
	if e == nil {
		return row
	}
	row.EventID, row.EventType, row.Version, row.OccurredAt = string(e.ID), string(e.Type), &e.Version, moment(e.OccurredAt)
	row.ActorKind, row.ActorID, row.PreviousStatus, row.Reminder = string(e.Actor.Kind), e.Actor.ID, string(e.PreviousStatus), string(e.Reminder)
	row.AutoApproved, row.HostWebhooks = &e.AutoApproved, &e.HostWebhooks
	row.booking(&e.Booking)
	if p := e.Payment; p != nil {
		row.PaidBy, row.PaidAmountMinor, row.PaidCurrency, row.PaidReference = p.Method, new(int64(p.Amount)), p.Currency, p.Reference
		row.PaidAt, row.PaidProvider = moment(p.At), p.Provider
		if p.PaidTotal != 0 {
			row.PaidTotalMinor = new(int64(p.PaidTotal))
		}
	}
	return row
}

func (row *bookingRow) booking(b *schemas.Booking) {
	row.BookingID, row.AgentID, row.HostID, row.Status = string(b.ID), string(b.AgentID), string(b.HostID), string(b.Status)
	row.PropertyID, row.PropertyTitle, row.PropertyAddress = string(b.Property.ID), b.Property.Title, b.Property.Address
	row.PropertyCity, row.PropertyState = b.Property.City, b.Property.State
	row.CheckIn, row.CheckOut = day(b.CheckIn), day(b.CheckOut)
	row.Nights, row.Guests = new(int32(b.Nights)), new(int32(b.Guests))
	row.GuestFirstName, row.GuestLastName, row.GuestEmail = b.Guest.FirstName, b.Guest.LastName, b.Guest.Email
	row.GuestPhone, row.GuestCountryCode, row.SpecialRequests = b.Guest.Phone, b.Guest.CountryCode, b.SpecialRequests
	row.TotalAmountMinor, row.Currency = new(int64(b.TotalAmount)), b.Currency
	row.PaymentMethod, row.PaymentStatus = b.PaymentMethod, string(b.PaymentStatus)
	row.CreatedAt, row.UpdatedAt = moment(b.CreatedAt), moment(b.UpdatedAt)
	row.ExpiresAt, row.ConfirmedAt, row.CancelledAt, row.CancellationReason = b.ExpiresAt, b.ConfirmedAt, b.CancelledAt, b.CancellationReason
}

func attemptRowOf(r *Record) attemptRow {
	row := attemptRow{envelope: envelopeOf(r)}
	a := decoded[schemas.Attempt](r.Value)
	if a == nil {
		return row
	}
	row.DeliveryID, row.EventID, row.EventType = string(a.DeliveryID), string(a.EventID), string(a.EventType)
	row.SubscriptionID, row.AgentID, row.BookingID = string(a.SubscriptionID), string(a.AgentID), string(a.BookingID)
	row.Run, row.Number, row.Trigger = &a.Run, new(int32(a.Number)), string(a.Trigger)
	row.StartedAt, row.DurationMS, row.Outcome, row.Final = moment(a.StartedAt), &a.DurationMS, string(a.Outcome), &a.Final
	if a.Status != 0 {
		row.Status = new(int32(a.Status))
	}
	row.ErrorClass, row.Error, row.ResponseBody = string(a.ErrorClass), a.Error, a.ResponseBody
	row.NextAttemptAt, row.DeliveryCreatedAt = a.NextAttemptAt, moment(a.DeliveryCreatedAt)
	return row
}

// moment is nil for the zero time, which stands for none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

// day counts from 1970-01-01, as Parquet does; nil for a date that is none.
func day(d schemas.Date) *int32 {
	t := d.Time()
	if t.IsZero() {
		return nil
	}
	return new(int32(t.Unix() / (24 * 60 * 60)))
}
