package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

type bookingBody struct {
	PropertyID      schemas.PropertyID `json:"property_id" check:"required,min=1,max=255,line"`
	CheckIn         schemas.Date       `json:"check_in" check:"required"`
	CheckOut        schemas.Date       `json:"check_out" check:"required"`
	Guests          int                `json:"guests" check:"required,min=1,max=50"`
	Guest           guestBody          `json:"guest_info" check:"required"`
	SpecialRequests string             `json:"special_requests" check:"max=500"`
	TotalAmount     schemas.Amount     `json:"total_amount" check:"required,min=0.01"`
	PaymentMethod   string             `json:"payment_method" check:"max=50,line" default:"pending"`
	Source          string             `json:"source" check:"max=100"` // accepted and ignored, as ever
}

type guestBody struct {
	FirstName   string `json:"first_name" check:"required,min=1,max=50,line,as=name"`
	LastName    string `json:"last_name" check:"max=50,line,as=name"` // some people have one name
	Email       string `json:"email" check:"required,min=3,max=254,line,as=email"`
	Phone       string `json:"phone" check:"required,min=3,max=32,line,as=phone"`
	CountryCode string `json:"country_code" check:"line,as=countrycode"` // without one and without a + before the number, +971
}

func (b *bookingBody) check(add func(field, rule, message string)) {
	if b.CheckIn != "" && b.CheckOut != "" && b.CheckOut <= b.CheckIn {
		add("check_out", "after", "must be after check_in")
	}
	if b.Guest.Phone != "" {
		if _, field, message := parsePhone(b.Guest.CountryCode, b.Guest.Phone); message != "" {
			add("guest_info."+field, "format", message)
		}
	}
}

func (b *bookingBody) command() producers.NewBooking {
	guest := schemas.Guest(b.Guest)
	n, _, _ := parsePhone(guest.CountryCode, guest.Phone) // check has seen that it is one
	guest.CountryCode, guest.Phone = n.country, n.national
	guest.FirstName, guest.LastName = norm.NFC.String(guest.FirstName), norm.NFC.String(strings.TrimSpace(guest.LastName))
	return producers.NewBooking{
		PropertyID: b.PropertyID, CheckIn: b.CheckIn, CheckOut: b.CheckOut, Guests: b.Guests, Guest: guest,
		SpecialRequests: b.SpecialRequests, TotalAmount: b.TotalAmount, PaymentMethod: b.PaymentMethod,
	}
}

type bookingView struct {
	BookingID          schemas.BookingID     `json:"booking_id"`
	Status             schemas.BookingStatus `json:"status"`
	Version            int64                 `json:"version"`
	Property           propertyBrief         `json:"property"`
	Dates              datesView             `json:"dates"`
	Guests             int                   `json:"guests"`
	GuestInfo          schemas.Guest         `json:"guest_info"`
	SpecialRequests    *string               `json:"special_requests"`
	TotalAmount        schemas.Amount        `json:"total_amount"`
	Currency           string                `json:"currency"`
	Payment            paymentView           `json:"payment"`
	NextSteps          []string              `json:"next_steps"`
	CancellationPolicy string                `json:"cancellation_policy"`
	HostContact        hostContact           `json:"host_contact"`
	CreatedAt          time.Time             `json:"created_at"`
	ExpiresAt          *time.Time            `json:"expires_at"`
}

// propertyBrief is a property as a booking shows it; its address is one line.
type propertyBrief struct {
	ID      schemas.PropertyID `json:"id"`
	Title   string             `json:"title"`
	Address string             `json:"address"`
}

func briefProperty(p *schemas.PropertyRef) propertyBrief {
	return propertyBrief{p.ID, p.Title, p.Address + ", " + p.City + ", " + p.State}
}

type datesView struct {
	CheckIn  schemas.Date `json:"check_in"`
	CheckOut schemas.Date `json:"check_out"`
	Nights   int          `json:"nights"`
}

type paymentView struct {
	Method   string                `json:"method"`
	Status   schemas.PaymentStatus `json:"status"`
	IntentID *string               `json:"payment_intent_id"` // always null: nothing is charged here
}

type hostContact struct {
	Name         string `json:"name"`
	ResponseTime string `json:"response_time"`
}

func (s *server) createBooking(r *http.Request, p auth.Principal) (answer, error) {
	in, once, err := decodeOnce[bookingBody](r)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.CreateBooking(r.Context(), p.Scope(), once, in.command())
	if err != nil {
		return answer{}, err
	}
	message := "Booking created; it waits for the host's answer"
	switch {
	case a.Repeated:
		message = "This booking exists already: you made the same request before"
	case a.Booking.Status == schemas.Confirmed:
		message = "Booking created and confirmed: the host approves such requests at once"
	}
	return answer{data: viewBooking(&a.Booking), message: message, etag: etag(a.Booking.Version)}, nil
}

func viewBooking(b *schemas.Booking) bookingView {
	return bookingView{
		BookingID: b.ID, Status: b.Status, Version: b.Version, Property: briefProperty(&b.Property),
		Dates: datesView{b.CheckIn, b.CheckOut, b.Nights}, Guests: b.Guests, GuestInfo: b.Guest, SpecialRequests: orNull(b.SpecialRequests),
		TotalAmount: b.TotalAmount, Currency: b.Currency, Payment: paymentView{Method: b.PaymentMethod, Status: b.PaymentStatus},
		NextSteps: nextSteps(b), CancellationPolicy: "moderate",
		HostContact: hostContact{Name: "The host of " + b.Property.Title, ResponseTime: responseTime(b)}, CreatedAt: b.CreatedAt, ExpiresAt: b.ExpiresAt,
	}
}

// nextSteps are four sentences for the agent's guest.
func nextSteps(b *schemas.Booking) []string {
	answered := "The host answers the request"
	if b.ExpiresAt != nil {
		answered += " until " + b.ExpiresAt.Format(time.RFC3339) + ", else it expires"
	}
	if b.Status == schemas.Confirmed {
		answered = "The host has confirmed the booking"
	}
	return []string{
		answered,
		"A webhook tells the agent of each change",
		"Payment is arranged after the confirmation",
		"Check-in is on " + string(b.CheckIn) + ", check-out on " + string(b.CheckOut),
	}
}

func responseTime(b *schemas.Booking) string {
	if b.ExpiresAt == nil {
		return "answered"
	}
	d := b.ExpiresAt.Sub(b.CreatedAt)
	if d >= time.Hour {
		return "within " + strconv.Itoa(int(d.Hours())) + " hours"
	}
	return "within " + d.Round(time.Second).String()
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }
