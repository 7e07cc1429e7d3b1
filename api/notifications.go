package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// notificationBody leaves its two enums to the handler: the contract answers 400
// for an unknown one.
type notificationBody struct {
	Type           string     `json:"type" check:"required,max=100"`
	Title          string     `json:"title" check:"required,min=1,max=255,line"`
	Message        string     `json:"message" check:"required,min=1,max=4000"`
	BookingID      string     `json:"booking_id" check:"max=255,line"`
	PropertyID     string     `json:"property_id" check:"max=255,line"`
	Priority       string     `json:"priority" check:"max=100" default:"medium"`
	ActionRequired bool       `json:"action_required"`
	ActionURL      string     `json:"action_url" check:"max=2048,as=link"`
	ExpiresAt      *time.Time `json:"expires_at"`
}

func (b *notificationBody) command() (producers.NewNotification, error) {
	n := producers.NewNotification{
		Type: schemas.NotificationType(b.Type), Title: b.Title, Message: b.Message, BookingID: b.BookingID, PropertyID: b.PropertyID,
		Priority: schemas.Priority(b.Priority), ActionRequired: b.ActionRequired, ActionURL: b.ActionURL, ExpiresAt: b.ExpiresAt,
	}
	switch {
	case !n.Type.Known():
		return n, notOneOf("invalid_type", "type", schemas.NotificationTypes())
	case !n.Priority.Known():
		return n, notOneOf("invalid_priority", "priority", schemas.Priorities())
	}
	return n, nil
}

func notOneOf[T ~string](code, field string, allowed []T) error {
	e := schemas.Refuse(schemas.Rule, code, field, "enum", "%s must be one of %v", field, allowed)
	e.Extra = map[string]any{"allowed_values": allowed}
	return e
}

type sentView struct {
	Status    string                   `json:"status"`
	ID        schemas.NotificationID   `json:"notification_id"`
	HostID    schemas.HostID           `json:"host_id"`
	Type      schemas.NotificationType `json:"type"`
	CreatedAt time.Time                `json:"created_at"`
}

func (s *server) sendNotification(r *http.Request, p auth.Principal) (answer, error) {
	host, err := pathID(r, "host_id")
	if err != nil {
		return answer{}, err
	}
	in, body, err := decode[notificationBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	command, err := in.command()
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, body)
	if err != nil {
		return answer{}, err
	}
	n, err := s.o.Producer.SendNotification(r.Context(), p.Scope(), once, schemas.HostID(host), command)
	if err != nil {
		return answer{}, err
	}
	return answer{data: sentView{"sent", n.ID, n.HostID, n.Type, n.CreatedAt}, message: "Notification sent"}, nil
}

// maxBulk bounds one bulk request: all of it is one transaction.
const maxBulk = 100

// bulkItem is one notification of many, and whom it is for.
type bulkItem struct {
	HostID         schemas.HostID `json:"host_id" check:"required,min=1,max=255,line"`
	Type           string         `json:"type" check:"required,max=100"`
	Title          string         `json:"title" check:"required,min=1,max=255,line"`
	Message        string         `json:"message" check:"required,min=1,max=4000"`
	BookingID      string         `json:"booking_id" check:"max=255,line"`
	PropertyID     string         `json:"property_id" check:"max=255,line"`
	Priority       string         `json:"priority" check:"max=100" default:"medium"`
	ActionRequired bool           `json:"action_required"`
	ActionURL      string         `json:"action_url" check:"max=2048,as=link"`
	ExpiresAt      *time.Time     `json:"expires_at"`
}

func (b *bulkItem) command() (producers.Addressed, error) {
	one := notificationBody{
		Type: b.Type, Title: b.Title, Message: b.Message, BookingID: b.BookingID, PropertyID: b.PropertyID, Priority: b.Priority,
		ActionRequired: b.ActionRequired, ActionURL: b.ActionURL, ExpiresAt: b.ExpiresAt,
	}
	n, err := one.command()
	return producers.Addressed{Host: b.HostID, NewNotification: n}, err
}

type bulkResult struct {
	HostID         string                  `json:"host_id"`
	Status         string                  `json:"status"`
	NotificationID *schemas.NotificationID `json:"notification_id"`
	Error          *string                 `json:"error"`
	Code           *string                 `json:"code"`
	Errors         []schemas.FieldError    `json:"errors"`
}

func failed(host string, err *schemas.Error) bulkResult {
	return bulkResult{HostID: host, Status: "failed", Error: &err.Detail, Code: &err.Code, Errors: append([]schemas.FieldError{}, err.Fields...)}
}

type bulkView struct {
	Results    []bulkResult `json:"results"`
	Total      int          `json:"total_count"`
	Successful int          `json:"successful_count"`
	Failed     int          `json:"failed_count"`
}

// sendMany takes a bare list, as the contract has it. Each item is sent or refused
// for itself, and its result stands in its place.
func (s *server) sendMany(r *http.Request, p auth.Principal) (answer, error) {
	items, body, err := decodeList[bulkItem](r, maxBulk)
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, body)
	if err != nil {
		return answer{}, err
	}
	v := bulkView{Results: make([]bulkResult, len(items)), Total: len(items)}
	var (
		good  []producers.Addressed
		place []int
	)
	for i := range items {
		it := &items[i]
		var n producers.Addressed
		if it.err == nil {
			n, it.err = it.value.command()
		}
		if refusal, ok := errors.AsType[*schemas.Error](it.err); ok {
			v.Results[i] = failed(it.text("host_id"), refusal)
			continue
		}
		good, place = append(good, n), append(place, i)
	}
	sent, err := s.o.Producer.SendNotifications(r.Context(), p.Scope(), once, good)
	if err != nil {
		return answer{}, err
	}
	for k := range sent {
		host := string(good[k].Host)
		if sent[k].Refusal != nil {
			v.Results[place[k]] = failed(host, sent[k].Refusal)
			continue
		}
		v.Successful++
		v.Results[place[k]] = bulkResult{HostID: host, Status: "success", NotificationID: &sent[k].Notification.ID, Errors: []schemas.FieldError{}}
	}
	v.Failed = v.Total - v.Successful
	return answer{data: v, message: "Sent " + strconv.Itoa(v.Successful) + " of " + strconv.Itoa(v.Total) + " notifications"}, nil
}

// noticeQuery stands in the URL, as the contract has it.
type noticeQuery struct {
	BookingID     schemas.BookingID  `json:"booking_id" check:"required,max=255,line"`
	PropertyID    schemas.PropertyID `json:"property_id" check:"required,max=255,line"`
	Kind          string             `json:"notification_type" check:"required,max=100,line"`
	GuestName     string             `json:"guest_name" check:"required,min=1,max=200,line"`
	PropertyTitle string             `json:"property_title" check:"required,min=1,max=255,line"`
}

func (s *server) notifyOfBooking(r *http.Request, p auth.Principal) (answer, error) {
	host, err := pathID(r, "host_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[noticeQuery](r)
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, []byte(r.URL.RawQuery))
	if err != nil {
		return answer{}, err
	}
	n, err := s.o.Producer.NotifyOfBooking(r.Context(), p.Scope(), once, schemas.HostID(host), producers.BookingNotice{
		Kind: q.Kind, Booking: q.BookingID, Property: q.PropertyID, GuestName: q.GuestName, PropertyTitle: q.PropertyTitle,
	})
	if err != nil {
		return answer{}, err
	}
	return answer{data: sentView{"sent", n.ID, n.HostID, n.Type, n.CreatedAt}, message: "Notification sent"}, nil
}

type messageBody struct {
	Message string `json:"message" check:"required,min=1,max=4000"`
	Title   string `json:"title" check:"max=255,line"`
}

// passMessage is the hook that an agent's messages come in by. It is signed: who
// reads the request on its way must not be able to change it or to send it again.
func (s *server) passMessage(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "booking_id")
	if err != nil {
		return answer{}, err
	}
	in, body, err := decode[messageBody](r, strict)
	if err != nil {
		return answer{}, err
	}
	once, err := signed(r, body)
	if err != nil {
		return answer{}, err
	}
	n, err := s.o.Producer.PassMessage(r.Context(), p.Scope(), once, schemas.BookingID(id), producers.Message{Text: in.Message, Title: in.Title})
	if err != nil {
		return answer{}, err
	}
	return answer{data: sentView{"sent", n.ID, n.HostID, n.Type, n.CreatedAt}, message: "Message passed on"}, nil
}

type cleanedView struct {
	Status  string    `json:"status"`
	Deleted int       `json:"deleted_count"`
	At      time.Time `json:"cleaned_at"`
}

func (s *server) cleanUpNotifications(r *http.Request, p auth.Principal) (answer, error) {
	n, err := s.o.Producer.CleanUp(r.Context(), p.Scope())
	if err != nil {
		return answer{}, err
	}
	return answer{data: cleanedView{"success", n, schemas.Stamp(time.Now())}, message: "Removed " + strconv.Itoa(n) + " expired notifications"}, nil
}
