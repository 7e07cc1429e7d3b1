package bench

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

func hookOf(t *testing.T) *hook {
	t.Helper()
	r, err := listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	h := r.hook()
	h.secret, h.sample = bytes.Repeat([]byte{7}, 32), []byte(`{"id":"evt_1","booking_id":"bkg_1"}`)
	return h
}

func TestTheReceiverCountsWhatIsSigned(t *testing.T) {
	t.Parallel()
	h := hookOf(t)
	p := h.bare(2)
	defer p.close()
	event := time.Now().Add(-time.Minute)
	for range 3 {
		if err := p.post(t.Context(), event); err != nil {
			t.Fatal(err)
		}
	}
	p.next.Store(0) // the first one again
	if err := p.post(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	p.secret = bytes.Repeat([]byte{8}, 32)
	if err := p.post(t.Context(), event); err == nil {
		t.Error("a wrong signature is taken")
	}
	if err := h.await(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	seen := h.clear()
	if len(seen) != 3 || len(h.clear()) != 0 {
		t.Errorf("%d deliveries, want 3: a repeat and a forgery are none", len(seen))
	}
	for id, a := range seen {
		if a.booking != "bkg_1" || !a.event.Equal(event) || a.at.Before(event) || last(seen).Before(a.at) {
			t.Errorf("%s: %+v", id, a)
		}
	}
}

func TestAwaitingMoreThanComesSaysHowManyCame(t *testing.T) {
	t.Parallel()
	h := hookOf(t)
	p := h.bare(1)
	defer p.close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.await(ctx, 2) }()
	if err := p.post(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAHangingHookAnswersNobody(t *testing.T) {
	t.Parallel()
	h := hookOf(t)
	h.hangs.Store(true)
	p := h.bare(1)
	defer p.close()
	p.client.Timeout = 50 * time.Millisecond
	if err := p.post(t.Context(), time.Now()); err == nil {
		t.Error("it was answered")
	}
	if n := len(h.clear()); n != 0 {
		t.Errorf("%d deliveries", n)
	}
}

func TestAnUnknownPathIsNobodys(t *testing.T) {
	t.Parallel()
	h := hookOf(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"0", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := keepAlive(1).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("answered with %s", res.Status)
	}
}
