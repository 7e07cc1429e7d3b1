package api

import (
	"cmp"
	"net/http"
	"strings"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// paymentBody's provider is the method where that says it all, as for cash.
type paymentBody struct {
	Amount    schemas.Amount `json:"amount" check:"required,min=0.01"`
	Currency  string         `json:"currency" check:"required,as=currency"`
	Method    string         `json:"method" check:"required,min=1,max=50,line"`
	Provider  string         `json:"provider" check:"max=50,line"`
	Reference string         `json:"reference" check:"required,min=1,max=255,line"`
	Overpay   bool           `json:"allow_overpayment"`
}

func (b *paymentBody) command() producers.NewPayment {
	provider := strings.TrimSpace(cmp.Or(b.Provider, b.Method))
	return producers.NewPayment{
		Amount: b.Amount, Currency: b.Currency, Method: b.Method, Provider: strings.ToLower(provider), Reference: strings.TrimSpace(b.Reference),
		AllowOverpayment: b.Overpay,
	}
}

type receivedView struct {
	PaymentID  schemas.PaymentID     `json:"payment_id"`
	BookingID  schemas.BookingID     `json:"booking_id"`
	Amount     schemas.Amount        `json:"amount"`
	Currency   string                `json:"currency"`
	Method     string                `json:"method"`
	Provider   string                `json:"provider"`
	Reference  string                `json:"reference"`
	ReceivedAt time.Time             `json:"received_at"`
	Status     schemas.PaymentStatus `json:"payment_status"`
	Paid       schemas.Amount        `json:"paid_amount"`
	Total      schemas.Amount        `json:"total_amount"`
	Overpaid   schemas.Amount        `json:"overpaid_amount"`
	Version    int64                 `json:"version"`
}

func (s *server) recordPayment(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "booking_id")
	if err != nil {
		return answer{}, err
	}
	in, once, err := decodeOnce[paymentBody](r)
	if err != nil {
		return answer{}, err
	}
	a, err := s.o.Producer.RecordPayment(r.Context(), p.Scope(), once, schemas.BookingID(id), in.command())
	if err != nil {
		return answer{}, err
	}
	message := "Payment recorded"
	if a.Repeated {
		message = "This payment was recorded before; nothing has changed"
	}
	b, m := &a.Booking, &a.Payment
	return answer{message: message, etag: etag(b.Version), data: receivedView{
		PaymentID: a.ID, BookingID: b.ID, Amount: m.Amount, Currency: m.Currency, Method: m.Method, Provider: m.Provider, Reference: m.Reference,
		ReceivedAt: m.At, Status: b.PaymentStatus, Paid: a.Paid, Total: b.TotalAmount, Overpaid: max(a.Paid-b.TotalAmount, 0), Version: b.Version,
	}}, nil
}
