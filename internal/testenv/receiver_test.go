package testenv_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

// post sends body and answers the status, headers and body that came back.
func post(ctx context.Context, t *testing.T, url, body string) (int, http.Header, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Webhook-Id", "d1")
	client := http.Client{Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(got), err
}

func TestAReceiverKeepsWhatItIsSent(t *testing.T) {
	r := testenv.Receiver(t, nil)
	for _, body := range []string{"first", "second"} {
		status, _, _, err := post(t.Context(), t, r.URL()+"/hook", body)
		if err != nil || status != http.StatusOK {
			t.Errorf("answered %d (%v), want 200", status, err)
		}
	}
	for n, want := range []string{"first", "second"} {
		got := r.Next(t)
		if string(got.Body) != want || got.N != n || got.Path != "/hook" || got.Method != http.MethodPost {
			t.Errorf("request %d is %+v, want %q", n, got, want)
		}
		if got.Header.Get("X-Webhook-Id") != "d1" || got.At.IsZero() || got.Remote == "" {
			t.Errorf("request %d came without its header, time or sender: %+v", n, got)
		}
	}
	if r.Count() != 2 || len(r.All()) != 2 {
		t.Errorf("counted %d and %d, want 2", r.Count(), len(r.All()))
	}
}

func TestAReceiverAnswersWhatItIsTold(t *testing.T) {
	r := testenv.Receiver(t, func(r testenv.Request) testenv.Response {
		return testenv.Response{
			Status: http.StatusTooManyRequests + r.N,
			Header: http.Header{"Retry-After": {"7"}},
			Body:   r.Body,
		}
	})
	status, header, body, err := post(t.Context(), t, r.URL(), "again")
	if err != nil {
		t.Fatal(err)
	}
	if status != http.StatusTooManyRequests || header.Get("Retry-After") != "7" || body != "again" {
		t.Errorf("answered %d, %q, %q", status, header.Get("Retry-After"), body)
	}
}

func TestNextWaitsForARequest(t *testing.T) {
	r := testenv.Receiver(t, nil)
	got := make(chan string)
	go func() { got <- string(r.Next(t).Body) }()
	if _, _, _, err := post(t.Context(), t, r.URL(), "late"); err != nil {
		t.Fatal(err)
	}
	if body := <-got; body != "late" {
		t.Errorf("got %q, want %q", body, "late")
	}
}

func TestAHangingReceiverHoldsItsAnswerAndLetsTheSenderGo(t *testing.T) {
	release := make(chan struct{})
	r := testenv.Receiver(t, func(testenv.Request) testenv.Response { return testenv.Response{Hang: release} })

	ctx, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, _, err := post(ctx, t, r.URL(), "one"); !errors.Is(err, context.Canceled) {
			t.Errorf("the sender that left got %v", err)
		}
	})
	r.Next(t)
	leave()
	wg.Wait()

	wg.Go(func() {
		if status, _, _, err := post(t.Context(), t, r.URL(), "two"); err != nil || status != http.StatusOK {
			t.Errorf("the patient sender got %d (%v), want 200", status, err)
		}
	})
	r.Next(t)
	close(release)
	wg.Wait()
}

func TestAReceiverClosesWhileARequestHangs(t *testing.T) {
	answer := make(chan error)
	t.Run("test", func(t *testing.T) {
		r := testenv.Receiver(t, func(testenv.Request) testenv.Response {
			return testenv.Response{Hang: make(chan struct{})}
		})
		go func() {
			_, _, _, err := post(context.WithoutCancel(t.Context()), t, r.URL(), "x")
			answer <- err
		}()
		r.Next(t)
	})
	if err := <-answer; err == nil {
		t.Error("the hanging request was answered")
	}
}
