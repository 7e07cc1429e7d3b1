package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// conns is how many connections there are to the API at most: an agent's open
// loop at a rate that is not reached waits here, and its wait is counted.
const conns = 256

// agentSecret is what subscriptions present to their receiver.
const agentSecret = "the-benchmarks-own-key"

// An api calls Krib as an agent does.
type api struct {
	client    *http.Client
	base, key string
}

func newAPI(base, key string) *api { return &api{client: keepAlive(conns), base: base, key: key} }

// call sends a request and decodes the data of its answer into a T.
func call[T any](ctx context.Context, a *api, method, path string, in any) (T, error) {
	var out struct {
		Data T `json:"data"`
	}
	body, err := schemas.Encode(in)
	if err != nil {
		return out.Data, err
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return out.Data, fmt.Errorf("making the request %s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := a.client.Do(req)
	if err != nil {
		return out.Data, fmt.Errorf("calling the API: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return out.Data, fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	if res.StatusCode != http.StatusOK {
		return out.Data, fmt.Errorf("%s %s was answered with %s: %s", method, path, res.Status, answer[:min(len(answer), 400)])
	}
	out, err = schemas.Decode[struct {
		Data T `json:"data"`
	}](answer)
	return out.Data, err
}

type bookingRequest struct {
	PropertyID  schemas.PropertyID `json:"property_id"`
	CheckIn     schemas.Date       `json:"check_in"`
	CheckOut    schemas.Date       `json:"check_out"`
	Guests      int                `json:"guests"`
	Guest       schemas.Guest      `json:"guest_info"`
	TotalAmount schemas.Amount     `json:"total_amount"`
}

// book makes a booking over HTTP.
func (a *api) book(ctx context.Context, n producers.NewBooking) (schemas.BookingID, error) {
	b, err := call[struct {
		ID schemas.BookingID `json:"booking_id"`
	}](ctx, a, http.MethodPost, "/api/v1/bookings", bookingRequest{n.PropertyID, n.CheckIn, n.CheckOut, n.Guests, n.Guest, n.TotalAmount})
	if err == nil && b.ID == "" {
		err = errors.New("a booking was answered without its id")
	}
	return b.ID, err
}

// subscribe points a subscription for new bookings at a hook. Each has an address
// of its own, as the API asks for.
func (a *api) subscribe(ctx context.Context, h *hook) error {
	s, err := call[struct {
		ID     schemas.SubscriptionID `json:"id"`
		Secret schemas.Secret         `json:"signing_secret"`
	}](ctx, a, http.MethodPost, "/api/v1/external/webhook-subscriptions", map[string]any{
		"agent_name": "krib bench", "webhook_url": h.url, "api_key": agentSecret, "events": []schemas.EventType{schemas.BookingCreated},
	})
	if err != nil {
		return err
	}
	secret, err := schemas.ParseSigningSecret(s.Secret)
	if err != nil {
		return fmt.Errorf("reading the signing secret: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.id, h.secret = s.ID, secret
	return nil
}

func (a *api) unsubscribe(ctx context.Context, h *hook) error {
	_, err := call[map[string]any](ctx, a, http.MethodDelete, "/api/v1/external/webhook-subscriptions/"+string(h.id), map[string]any{})
	return err
}

// subscribed runs something while n hooks are subscribed, from rest: what they
// receive is of this run only. They are unsubscribed also when ctx has ended,
// since the database may be a given one that stays.
func (b *bench) subscribed(ctx context.Context, n int, run func([]*hook) error) (err error) {
	var hooks []*hook
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		for _, h := range hooks {
			if e := b.api.unsubscribe(ctx, h); e != nil {
				err = errors.Join(err, e)
				return // the others would say the same
			}
		}
	}()
	for range n {
		h := b.hooks.hook()
		if err := b.api.subscribe(ctx, h); err != nil {
			return err
		}
		hooks = append(hooks, h)
	}
	if err := b.rest(ctx); err != nil {
		return err
	}
	return run(hooks)
}
