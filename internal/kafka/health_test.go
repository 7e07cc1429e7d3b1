package kafka

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// asked runs a Health on a broker that answers as answer says, in a bubble whose clock
// stands still between the steps of the test.
func asked(t *testing.T, answer func(context.Context) error) *Health {
	t.Helper()
	h := &Health{ping: answer, end: func() {}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = h.Run(ctx) // always nil
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return h
}

func pass(d time.Duration) {
	<-time.After(d) // of the bubble's clock
	synctest.Wait()
}

func TestBrokersThatDoNotAnswerAreUnreachableSinceTheFirstQuestion(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	refuse := func(context.Context) error { return errors.New("connection refused") }
	for name, how := range map[string]func(context.Context) error{"refused": refuse, "silent": hang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				works := func(context.Context) error { return nil }
				var answer atomic.Pointer[func(context.Context) error]
				answer.Store(&works)
				h := asked(t, func(ctx context.Context) error { return (*answer.Load())(ctx) })
				pass(10*time.Second + 500*time.Millisecond)
				if err := h.Err(); err != nil {
					t.Errorf("while they answer: %v", err)
				}
				answer.Store(&how)
				since := time.Now().Add(500 * time.Millisecond) // the next question
				pass(2 * time.Second)
				if err := h.Err(); err != nil {
					t.Errorf("after two seconds: %v", err)
				}
				pass(5 * time.Minute)
				if err := h.Err(); err == nil || !strings.HasPrefix(err.Error(), "kafka: unreachable since "+since.UTC().Format(time.RFC3339)+": ") {
					t.Errorf("after five minutes: %v, want since %s", err, since)
				}
				answer.Store(&works)
				pass(5 * time.Second)
				if err := h.Err(); err != nil {
					t.Errorf("when they answer again: %v", err)
				}
			})
		})
	}
}

func TestOneQuestionWithoutAnAnswerIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		h := asked(t, func(context.Context) error {
			if n.Add(1)%3 == 0 { // never two in a row
				return errors.New("reset by peer")
			}
			return nil
		})
		for range 100 {
			pass(time.Second)
			if err := h.Err(); err != nil {
				t.Fatalf("after %d questions: %v", n.Load(), err)
			}
		}
	})
}

func TestAStopIsNoOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &Health{ping: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, end: func() {}}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := h.Run(ctx); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if err := h.Err(); err != nil {
			t.Errorf("after the stop: %v", err)
		}
	})
}
