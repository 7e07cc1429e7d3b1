package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const testPath = "/api/v1/external/webhooks/test"

func TestATestWithoutSubscriptionsHasBothCounters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	w.key("webhooks:manage").do("POST", hooksPath, hook("https://other.example")).want(200) // another agent's is not sent to
	before := w.outbox()
	a.do("POST", testPath+"?event_type=test.webhook", map[string]any{"test": true, "deep": map[string]any{"any": []int{1}}}).want(200).
		is("data.status", "no_subscriptions", "data.event_type", "test.webhook", "data.total_subscriptions", 0, "data.successful_deliveries", 0, "data.results", "[]")
	a.do("POST", testPath, map[string]any{}).want(422).is("errors.0.field", "event_type", "errors.0.rule", "required")
	a.do("POST", testPath+"?event_type=no.such", map[string]any{}).refused(400, "invalid_events").is("valid_events.0", "booking.created")
	a.do("POST", testPath+"?event_type=test.webhook", "[1]").refused(422, "invalid_json")
	a.do("POST", testPath+"?event_type=test.webhook", `{"a":1,"a":2}`).want(422).is("errors.0.rule", "duplicate")
	if n := w.outbox() - before; n != 0 {
		t.Errorf("%d outbox rows after refusals", n)
	}
}

// deliverTests stands for the rest of the pipeline: it takes test deliveries out
// of the outbox and writes what came of them, until the test ends.
func (w *world) deliverTests(verdict func(d *schemas.Delivery, a *schemas.Attempt)) {
	sink, err := store.Open(w.t.Context(), w.url, store.RoleSink, 2)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(sink.Close)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := w.deliverOne(ctx, sink, verdict); err != nil && ctx.Err() == nil {
				w.t.Error(err)
				return
			}
		}
	}()
	w.t.Cleanup(func() { stop(); <-done })
}

func (w *world) deliverOne(ctx context.Context, sink *store.DB, verdict func(*schemas.Delivery, *schemas.Attempt)) error {
	rows, err := w.sql.Query(ctx, `delete from outbox where topic = 'webhook.deliveries' returning value`)
	if err != nil {
		return err
	}
	var as []schemas.Attempt
	for rows.Next() {
		var raw []byte
		if err := rows.Scan(&raw); err != nil {
			return err
		}
		d, err := schemas.Decode[schemas.Delivery](raw)
		if err != nil {
			return err
		}
		a := schemas.Attempt{
			DeliveryID: d.ID, EventID: d.EventID, EventType: d.EventType, SubscriptionID: d.SubscriptionID, AgentID: d.AgentID, Number: 1,
			Trigger: d.Trigger, StartedAt: time.Now(), DurationMS: 12, Final: true, DeliveryCreatedAt: d.CreatedAt,
		}
		verdict(&d, &a)
		as = append(as, a)
	}
	if err := rows.Err(); err != nil || len(as) == 0 {
		return err
	}
	return sink.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		_, err := tx.InsertAttempts(ctx, as)
		return err
	})
}

func TestATestAnswersWhatCameOfTheFirstAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) { o.WebhookTimeout = 30 * time.Second })
	a := w.key("platform", "webhooks:manage")
	good := a.do("POST", hooksPath, with(hook("https://good.example/"), "agent_name", "good")).want(200).text("data.id")
	a.do("POST", hooksPath, with(hook("https://bad.example/"), "agent_name", "bad")).want(200)
	a.do("POST", hooksPath, with(hook("https://other.example/"), "events", []string{"payment.received"})).want(200)
	w.key("webhooks:manage").do("POST", hooksPath, hook("https://foreign.example/")).want(200)
	var sent schemas.Delivery
	w.deliverTests(func(d *schemas.Delivery, at *schemas.Attempt) {
		if string(d.SubscriptionID) == good {
			sent = *d
			at.Outcome, at.Status, at.ResponseBody = schemas.Delivered, 201, strings.Repeat("ä", 600)
			return
		}
		at.Outcome, at.Status, at.ErrorClass = schemas.Dead, 500, schemas.ErrorStatus
	})
	r := a.do("POST", testPath+"?event_type=test.webhook", `{"message": "hello", "n": 1.50}`).want(200).
		is("data.status", "completed", "data.total_subscriptions", 2, "data.successful_deliveries", 1, "success", true,
			"message", "Of 2 test webhooks 1 were delivered, 1 failed, and of 0 no result is known after 30s")
	for _, v := range r.get("data.results").([]any) {
		got := v.(map[string]any)
		if got["agent_name"] == "good" {
			if got["status"] != "success" || got["status_code"] != float64(201) || got["attempt"] != float64(1) || got["error"] != nil ||
				got["response_time_ms"] != float64(12) || got["response_body"] != strings.Repeat("ä", 500) || got["subscription_id"] != good {
				t.Errorf("the good one: %v", got)
			}
			continue
		}
		if got["status"] != "failed" || got["attempts"] != float64(1) || got["error"] != "the receiver answered 500" {
			t.Errorf("the bad one: %v", got)
		}
	}
	var body struct {
		EventType string          `json:"event_type"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(sent.Payload), &body); err != nil || body.EventType != "test.webhook" || !strings.Contains(string(body.Data), "1.50") {
		t.Errorf("sent %s (%v)", sent.Payload, err)
	}
}

func TestATestThatNobodyDeliversIsPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	a.do("POST", hooksPath, hook("https://agent.example/")).want(200)
	start := time.Now()
	a.do("POST", testPath+"?event_type=test.webhook", map[string]any{}).want(200).
		is("data.status", "completed", "data.results.0.status", "pending", "data.results.0.status_code", nil, "data.total_subscriptions", 1, "data.successful_deliveries", 0,
			"success", true, "message", "The test webhook was accepted, and no result is known after 100ms")
	if took := time.Since(start); took < 1100*time.Millisecond {
		t.Errorf("waited %v, want the webhook timeout and a second", took)
	}
}

func TestATestOutlivesTheServersReadTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	a.do("POST", hooksPath, hook("https://agent.example/")).want(200)
	srv := httptest.NewUnstartedServer(w.srv.Config.Handler)
	srv.Config.ReadTimeout = 200 * time.Millisecond
	srv.Start()
	t.Cleanup(srv.Close)
	w.srv = srv
	a.do("POST", testPath+"?event_type=test.webhook", map[string]any{}).want(200).is("data.results.0.status", "pending")
}

func TestATestEndsWhenItsCallerLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) { o.WebhookTimeout = time.Hour })
	a := w.key("webhooks:manage")
	a.do("POST", hooksPath, hook("https://agent.example/")).want(200)
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.srv.URL+testPath+"?event_type=test.webhook", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", a.auth)
	left := make(chan struct{})
	go func() {
		defer close(left)
		if resp, err := w.srv.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	testenv.Eventually(t, "the delivery is sent", func() bool { return w.count(`select count(*) from outbox where topic = 'webhook.deliveries'`) == 1 })
	leave()
	<-left
	w.srv.Close() // waits for the handler
}

func TestAnAgentHasSoManyTestsThatWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *api.Options) { o.WebhookTimeout = time.Hour })
	a, b := w.key("webhooks:manage"), w.key("webhooks:manage")
	a.do("POST", hooksPath, hook("https://agent.example/")).want(200)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	const most = 16
	var left sync.WaitGroup
	for range most {
		left.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.srv.URL+testPath+"?event_type=test.webhook", strings.NewReader("{}"))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", a.auth)
			if resp, err := w.srv.Client().Do(req); err == nil {
				resp.Body.Close()
			}
		})
	}
	sent := func() int { return w.count(`select count(*) from outbox where topic = 'webhook.deliveries'`) }
	testenv.Eventually(t, "all of them wait", func() bool { return sent() == most })
	if got := a.do("POST", testPath+"?event_type=test.webhook", "{}").refused(429, "too_many_tests").header.Get("Retry-After"); got == "" {
		t.Error("no Retry-After")
	}
	if n := sent(); n != most {
		t.Errorf("%d deliveries, want none of the test that was refused", n)
	}
	b.do("POST", testPath+"?event_type=test.webhook", "{}").want(200)
	leave()
	left.Wait()
	testenv.Eventually(t, "those who left make room", func() bool {
		return a.do("POST", testPath+"?event_type=payment.received", "{}").status == 200
	})
}

func TestStatisticsCountDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("webhooks:manage")
	const path = "/api/v1/external/webhooks/statistics"
	a.do("GET", path, nil).want(200).is("data.total_subscriptions", 0, "data.active_subscriptions", 0, "data.failed_subscriptions", 0,
		"data.recent_successful_calls_24h", 0, "data.success_rate", 0)
	for _, u := range []string{"https://one.example", "https://two.example"} {
		a.do("POST", hooksPath, hook(u)).want(200)
	}
	w.exec(`update webhook_subscriptions set is_active = false where webhook_url like '%two%'`)
	attempt := func(id schemas.DeliveryID, number int, trigger schemas.Trigger, outcome schemas.Outcome, final bool, agent schemas.AgentID) {
		w.attempted(schemas.Attempt{
			DeliveryID: id, Number: number, EventID: "e", EventType: schemas.BookingCreated, SubscriptionID: schemas.SubscriptionID("sub_" + agent), AgentID: agent, Trigger: trigger, StartedAt: time.Now(),
			DurationMS: 1, Outcome: outcome, Final: final, Status: 200, DeliveryCreatedAt: time.Now(),
		})
	}
	attempt("d1", 1, "event", "retry", false, a.agent)
	attempt("d1", 2, "retry", "delivered", true, a.agent)
	attempt("d2", 1, "event", "delivered", true, a.agent)
	attempt("d3", 1, "event", "dead", true, a.agent)
	attempt("d4", 1, "test", "dead", true, a.agent)
	attempt("d5", 1, "event", "dead", true, "another")
	a.do("GET", path, nil).want(200).is("data.total_subscriptions", 2, "data.active_subscriptions", 1, "data.failed_subscriptions", 1,
		"data.recent_successful_calls_24h", 2, "data.success_rate", 66.67,
		"data.windows.24h.delivered", 2, "data.windows.24h.dead", 1, "data.windows.24h.failed", 2, "data.windows.24h.success_rate", 66.67)
}

// Nothing of it has ended yet, and nothing of it is a success.
func TestAnEndpointThatOnlyFailsHasNoSuccessRate(t *testing.T) {
	w := newWorld(t)
	a := w.key("webhooks:manage")
	id := a.do("POST", hooksPath, hook("https://failing.example")).want(200).text("data.id")
	began, one := time.Now().Add(-8*time.Minute), hooksPath+"/"+id+"/statistics"
	attempt := func(id, sub string, number int, outcome schemas.Outcome) {
		w.attempted(schemas.Attempt{
			DeliveryID: schemas.DeliveryID(id), Number: number, EventID: "e", EventType: schemas.BookingCreated, SubscriptionID: schemas.SubscriptionID(sub), AgentID: a.agent,
			Trigger: schemas.TriggerEvent, StartedAt: began.Add(time.Duration(number) * time.Second), DurationMS: 1, Outcome: outcome, Final: outcome != schemas.Retry, Status: 500,
			DeliveryCreatedAt: began,
		})
	}
	attempt("d1", id, 1, schemas.Retry)
	attempt("d1", id, 2, schemas.Retry)
	attempt("d2", id, 1, schemas.Retry)
	a.do("GET", one, nil).want(200).is("data.windows.1h.success_rate", 0, "data.windows.1h.failing", 2, "data.windows.24h.failing", 2, "data.waiting", 2)
	a.do("GET", "/api/v1/external/webhooks/statistics", nil).want(200).is("data.success_rate", 0, "data.windows.7d.failing", 2, "data.windows.7d.failed", 3)
	attempt("d2", id, 2, schemas.Delivered)
	attempt("d3", id, 1, schemas.Delivered)
	a.do("GET", one, nil).want(200).is("data.windows.1h.success_rate", 66.67, "data.windows.1h.failing", 1)
	w.exec(`update webhook_health set first_failure_at = now() where subscription_id = $1`, id)
	a.do("GET", "/api/v1/external/webhooks/statistics", nil).want(200).is("data.failing_subscriptions", 1, "data.failed_subscriptions", 0)
	w.key("webhooks:manage").do("GET", "/api/v1/external/webhooks/statistics", nil).want(200).is("data.failing_subscriptions", 0, "data.windows.7d.failing", 0)
}

func TestTheMessageOfATestIsItsResult(t *testing.T) {
	w := newWorld(t)
	a := w.key("webhooks:manage")
	id := a.do("POST", hooksPath, hook("https://agent.example/")).want(200).text("data.id")
	var result atomic.Pointer[schemas.Attempt]
	w.deliverTests(func(_ *schemas.Delivery, at *schemas.Attempt) {
		r := result.Load()
		at.Outcome, at.Status, at.ErrorClass, at.Error = r.Outcome, r.Status, r.ErrorClass, r.Error
	})
	for _, c := range []struct {
		attempt schemas.Attempt
		success bool
		message string
	}{
		{schemas.Attempt{Outcome: schemas.Delivered, Status: 204}, true, "The test webhook was delivered"},
		{schemas.Attempt{Outcome: schemas.Delivered, Status: 200, Error: "the response's body broke off; its status counts"}, true, "The test webhook was delivered"},
		{schemas.Attempt{Outcome: schemas.Dead, Status: 404, ErrorClass: schemas.ErrorStatus}, false, "The test webhook failed: the receiver answered 404"},
		{schemas.Attempt{Outcome: schemas.Dead, ErrorClass: schemas.ErrorTLS, Error: "the port does not speak TLS"}, false, "The test webhook failed: the port does not speak TLS"},
		{schemas.Attempt{Outcome: schemas.Gone, Status: 410, ErrorClass: schemas.ErrorStatus}, false, "The test webhook failed: the receiver answered 410"},
		{schemas.Attempt{Outcome: schemas.Dead, ErrorClass: schemas.ErrorBadURL}, false, "The test webhook failed: bad_url"},
	} {
		result.Store(&c.attempt)
		a.do("POST", hooksPath+"/"+id+"/test", map[string]any{"event_type": "test.webhook"}).want(200).is("success", c.success, "message", c.message)
		a.do("POST", testPath+"?event_type=test.webhook", map[string]any{}).want(200).is("success", true, "message", c.message)
	}
}
