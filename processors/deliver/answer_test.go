package deliver_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/processors/retry"
	"github.com/krib-ai/krib/schemas"
)

// once delivers one event to a handler and returns its only attempt.
func once(t *testing.T, h http.Handler, edit ...func(*deliver.Options)) schemas.Attempt {
	t.Helper()
	w := newWorld(t, 1, time.Hour)
	srv := httptest.NewServer(h)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	w.subscribe("sub_1", srv.URL+"/hook?token=hush")
	w.work(edit...)
	w.deliver(delivery("sub_1", "bkg_1", 1))
	a := w.attempts(1)[0]
	if strings.Contains(a.Error, "hush") {
		t.Errorf("the error carries the URL's secret: %q", a.Error)
	}
	return a
}

func TestAnswerIsMadeSafe(t *testing.T) {
	t.Parallel()
	a := once(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("a\x00b\xff\xfe" + strings.Repeat("é", 10_000)))
	}))
	if a.Outcome != schemas.Delivered || !utf8.ValidString(a.ResponseBody) || strings.Contains(a.ResponseBody, "\x00") ||
		len(a.ResponseBody) > 4096 || len(a.ResponseBody) < 4000 || !strings.HasPrefix(a.ResponseBody, "a\uFFFDb\uFFFD") {
		t.Errorf("%s, %d bytes, %.20q", a.Outcome, len(a.ResponseBody), a.ResponseBody)
	}
}

func TestGzipBombIsNotUnpacked(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 20<<20); err != nil {
		t.Fatal(err)
	}
	z.Close()
	a := once(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}))
	if a.Outcome != schemas.Delivered || len(a.ResponseBody) > 4096 {
		t.Errorf("%s, %d bytes", a.Outcome, len(a.ResponseBody))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'z'
	}
	return len(p), nil
}

func TestAStatusCountsWhoseBodyNeverEnds(t *testing.T) {
	t.Parallel()
	a := once(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				_, _ = w.Write([]byte("."))
				_ = http.NewResponseController(w).Flush()
			}
		}
	}), func(o *deliver.Options) { o.Timeout = 400 * time.Millisecond })
	if a.Outcome != schemas.Delivered || a.ErrorClass != schemas.ErrorNone || a.Status != 200 || a.Error != "the response's body did not end in time; its status counts" {
		t.Errorf("%+v", a)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	other := testenv.Receiver(t, nil)
	for name, location := range map[string]string{"elsewhere": other.URL(), "nowhere": "", "malformed": "http://[::1/%zz"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := once(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(http.StatusTemporaryRedirect)
			}))
			if a.Outcome != schemas.Retry || a.Status != 307 || a.ErrorClass != schemas.ErrorStatus {
				t.Errorf("%+v", a)
			}
			if other.Count() != 0 {
				t.Error("it was followed")
			}
		})
	}
}

func TestPrivateAddressIsDeadAtOnce(t *testing.T) {
	t.Parallel()
	a := once(t, http.NotFoundHandler(), func(o *deliver.Options) { o.Allow = nil })
	if a.Outcome != schemas.Dead || a.ErrorClass != schemas.ErrorRefused || !a.Final || a.Status != 0 || strings.Contains(a.Error, "127") {
		t.Errorf("%+v", a)
	}
}

func TestPlainHTTPIsRefusedUnlessAllowed(t *testing.T) {
	t.Parallel()
	a := once(t, http.NotFoundHandler(), func(o *deliver.Options) { o.AllowHTTP = false })
	if a.Outcome != schemas.Dead || a.ErrorClass != schemas.ErrorBadURL || !a.Final {
		t.Errorf("%+v", a)
	}
}

func TestCertificateOfAStrangerIsATLSError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, time.Hour)
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	w.subscribe("sub_1", srv.URL)
	w.work()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	if a := w.attempts(1)[0]; a.ErrorClass != schemas.ErrorTLS || a.Outcome != schemas.Retry {
		t.Errorf("%+v", a)
	}
}

func TestGoneEndsTheDelivery(t *testing.T) {
	t.Parallel()
	a := once(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	if a.Outcome != schemas.Gone || !a.Final {
		t.Errorf("%+v", a)
	}
}

func TestHeaderDisableEndsTheSubscription(t *testing.T) {
	t.Parallel()
	a := once(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Webhook-Delivery", "disable") }))
	if a.Outcome != schemas.Gone || !a.Final || a.Status != 200 {
		t.Errorf("%+v", a)
	}
}

func TestRetryAfterHoldsAlsoBeyondTheLongestTier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 300*ms)
	to := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		if r.N == 0 {
			return testenv.Response{Status: 429, Header: http.Header{"Retry-After": {"1"}}}
		}
		return testenv.Response{}
	})
	w.subscribe("sub_1", to.URL())
	w.work()
	w.move()
	w.deliver(delivery("sub_1", "bkg_1", 1))
	as := w.attempts(2)
	if as[0].NextAttemptAt == nil || as[0].NextAttemptAt.Sub(as[0].StartedAt) < time.Second {
		t.Errorf("the next attempt was promised at %v after %v", as[0].NextAttemptAt, as[0].StartedAt)
	}
	if as[1].Number != 2 || as[1].Outcome != schemas.Delivered {
		t.Errorf("%+v", as[1])
	}
	all := to.All()
	if gap := all[1].At.Sub(all[0].At); gap < time.Second {
		t.Errorf("it was called again after %v", gap)
	}
	w.settled(deliver.Group, retry.Group)
	if n := to.Count(); n != 2 {
		t.Errorf("%d requests were made, want 2", n)
	}
}

func TestDeadEndpointIsParkedAndExpiresWithTheLadder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, 200*ms, 300*ms)
	to := testenv.Receiver(t, failing(1<<20))
	w.subscribe("sub_1", to.URL())
	w.work(func(o *deliver.Options) { o.Timeout = time.Second })
	w.move()
	var ds []schemas.Delivery
	for i := range 100 {
		ds = append(ds, delivery("sub_1", schemas.BookingID(rune('a'+i)), 1))
	}
	w.deliver(ds...)
	reasons := map[string]int{}
	for _, d := range w.dead(100) {
		reasons[d.DeadReason]++
	}
	if reasons["expired"] == 0 || reasons["exhausted"]+reasons["expired"] != 100 {
		t.Errorf("dead letters by reason: %v", reasons)
	}
	w.settled(deliver.Group, retry.Group)
	if n := to.Count(); n >= 300 {
		t.Errorf("%d requests were made in spite of the breaker", n)
	}
	final := map[schemas.DeliveryID]int{}
	for _, a := range w.attempts(w.count(string(schemas.Attempts))) {
		if a.Final {
			final[a.DeliveryID]++
		}
	}
	if len(final) != 100 {
		t.Errorf("%d deliveries have a last attempt", len(final))
	}
}
