package api_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

func (c client) subscribe(url string) string {
	c.w.t.Helper()
	return hooksPath + "/" + c.do("POST", hooksPath, hook(url)).want(200).text("data.id")
}

func since(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339Nano) }

func TestAReplayIsStartedShownListedAndCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, platform := w.key("admin"), w.key("admin"), w.key("platform", "admin")
	sub := a.subscribe("https://a.example/hook")
	before := w.outbox()
	body := map[string]any{"since": since(40 * 24 * time.Hour), "event_types": []string{"booking.created"}, "only_failed": true}
	first := a.do("POST", sub+"/replays", body).want(200).is("data.state", "waiting", "data.kind", "replay", "data.reason", nil, "data.dry_run", false,
		"data.event_types", "[booking.created]", "data.only_failed", true, "data.progress.matched", 0, "data.progress.read_percent", 0, "data.booking_id", nil)
	window, err := time.Parse(time.RFC3339Nano, first.text("data.complete_since"))
	if age := time.Since(window); err != nil || age < 30*24*time.Hour || age > 30*24*time.Hour+time.Minute {
		t.Errorf("complete since %s", first.text("data.complete_since"))
	}
	second := a.do("POST", sub+"/replays", map[string]any{"since": since(time.Hour), "booking_id": "bkg_1"}).want(200).
		is("data.complete_since", nil, "data.booking_id", "bkg_1", "data.event_types", "[]")
	one := sub + "/replays/" + first.text("data.id")
	a.do("GET", one, nil).want(200).is("data.id", first.text("data.id"), "data.state", "waiting")
	platform.do("GET", one, nil).want(200)
	a.do("GET", sub+"/replays?limit=1", nil).want(200).is("data.total_count", 2, "data.has_more", true, "data.replays.0.id", second.text("data.id"))
	a.do("GET", sub+"/replays?offset=1", nil).want(200).is("data.returned_count", 1, "data.has_more", false, "data.replays.0.id", first.text("data.id"))
	b.do("GET", one, nil).refused(404, "replay_not_found")
	b.do("POST", one+"/cancel", nil).refused(404, "subscription_not_found")
	// A replay is found below its own subscription only.
	other := a.subscribe("https://a.example/other")
	a.do("GET", other+"/replays/"+first.text("data.id"), nil).refused(404, "replay_not_found")
	a.do("POST", other+"/replays/"+first.text("data.id")+"/cancel", nil).refused(404, "replay_not_found")
	a.do("POST", one+"/cancel", nil).want(200).is("data.state", "cancelled", "message", "Replay cancelled; what is on its way may still arrive")
	w.exec(`update webhook_replays set state = 'done', finished_at = now() where id = $1`, second.text("data.id"))
	a.do("POST", sub+"/replays/"+second.text("data.id")+"/cancel", nil).want(200).is("data.state", "done", "data.progress.read_percent", 100)
	if n := w.outbox() - before; n != 1 { // the other subscription
		t.Errorf("%d outbox rows", n)
	}
}

func TestAReplayThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	sub := a.subscribe("https://a.example/hook")
	day := since(24 * time.Hour)
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"no range":         {map[string]any{"only_failed": true}, 400, "no_range"},
		"upside down":      {map[string]any{"since": day, "until": since(48 * time.Hour)}, 400, "empty_range"},
		"tomorrow":         {map[string]any{"since": since(-time.Hour)}, 400, "empty_range"},
		"not asked for":    {map[string]any{"since": day, "event_types": []string{"booking.cancelled"}}, 400, "invalid_events"},
		"not of a booking": {map[string]any{"since": day, "event_types": []string{"test.webhook"}}, 400, "invalid_events"},
		"no time":          {map[string]any{"since": "yesterday"}, 422, "invalid_request"},
		"unknown member":   {map[string]any{"since": day, "rate": 5}, 422, "invalid_request"},
		"no body":          {nil, 422, "invalid_json"},
	} {
		if r := a.do("POST", sub+"/replays", c.body).want(c.status); name != "no body" && r.doc["code"] != c.code {
			t.Errorf("%s: %v", name, r.doc["code"])
		}
	}
	a.do("POST", sub+"/retry-failed", map[string]any{}).want(422)
	a.do("POST", sub+"/deliveries/dlv_none/retry", nil).refused(404, "delivery_not_found")
	a.do("POST", hooksPath+"/none/replays", map[string]any{"since": day}).refused(404, "subscription_not_found")
	a.do("POST", sub+"/toggle", nil).want(200)
	a.do("POST", sub+"/replays", map[string]any{"since": day}).refused(409, "subscription_disabled")
	a.do("POST", sub+"/retry-failed", map[string]any{"since": day}).refused(409, "subscription_disabled")
	a.do("POST", sub+"/toggle", nil).want(200)
	for range 5 {
		a.do("POST", sub+"/retry-failed", map[string]any{"since": day}).want(200).is("data.kind", "retry", "data.only_failed", true)
	}
	a.do("POST", sub+"/replays", map[string]any{"since": day}).refused(409, "too_many_replays")
	if n := w.count(`select count(*) from webhook_replays`); n != 5 {
		t.Errorf("%d replays", n)
	}
}

func TestAReplayIsStartedOnceForItsIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	sub := a.subscribe("https://a.example/hook")
	w.attempt(sub, "dlv_1", 0, "dead", "bkg_1")
	for path, body := range map[string]any{
		"/replays": map[string]any{"since": since(time.Hour)}, "/retry-failed": map[string]any{"since": since(time.Hour)}, "/deliveries/dlv_1/retry": nil,
	} {
		first := a.do("POST", sub+path, body, "Idempotency-Key", "k").want(200).text("data.id")
		a.do("POST", sub+path, body, "Idempotency-Key", "k").want(200).is("data.id", first)
	}
	if n := w.count(`select count(distinct run) from webhook_replays`); n != 3 {
		t.Errorf("%d runs", n)
	}
}

// attempt writes the final attempt of a delivery, which the sink would.
func (w *world) attempt(sub, delivery string, run int64, outcome, booking string) {
	w.t.Helper()
	w.exec(`insert into webhook_attempts (delivery_id, run, number, event_id, event_type, subscription_id, agent_id, booking_id, trigger, started_at,
		duration_ms, outcome, final, status, error_class, error, response_body, delivery_created_at)
		select $2, $3, 1, 'evt_1', 'booking.created', id, agent_id, $5, 'event', now(), 1, $4, true, 500, '', '', '', now() - interval '1 hour'
		from webhook_subscriptions where id = $1`, sub[len(hooksPath)+1:], delivery, run, outcome, booking)
}

func TestADeliveryIsRetriedByItsOwnerOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.key("admin"), w.key("admin")
	sub, other := a.subscribe("https://a.example/hook"), a.subscribe("https://a.example/other")
	w.attempt(sub, "dlv_1", 0, "delivered", "bkg_1")
	w.attempt(sub, "dlv_test", 0, "dead", "")
	a.do("POST", sub+"/deliveries/dlv_1/retry", nil).want(200).is("data.kind", "retry", "data.delivery_id", "dlv_1", "data.booking_id", "bkg_1")
	a.do("POST", other+"/deliveries/dlv_1/retry", nil).refused(404, "delivery_not_found")
	b.do("POST", sub+"/deliveries/dlv_1/retry", nil).refused(404, "subscription_not_found")
	a.do("POST", sub+"/deliveries/dlv_test/retry", nil).refused(409, "not_in_the_log")
}

// What a runner has saved, and what has become of the rest since then.
func TestTheProgressOfAReplayIsTrueAlsoBetweenTwoSaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	sub := a.subscribe("https://a.example/hook")
	r := a.do("POST", sub+"/replays", map[string]any{"since": since(time.Hour)}).want(200)
	path := sub + "/replays/" + r.text("data.id")
	w.exec(`update webhook_replays set state = 'done', finished_at = now(), started_at = now(), progress = $1`, `{
		"spans": [{"partition": 0, "start": 10, "next": 20, "end": 20}], "matched": 9, "produced": 9, "waiting": ["dlv_1", "dlv_2", "dlv_3", "dlv_4"],
		"ended": {"delivered": 3, "gone": 1, "superseded": 1}}`)
	run := int64(r.get("data.run").(float64))
	w.attempt(sub, "dlv_1", run, "dead", "bkg_1")
	w.attempt(sub, "dlv_2", run, "delivered", "bkg_1")
	w.attempt(sub, "dlv_3", run, "withheld", "bkg_1")
	w.attempt(sub, "dlv_4", 0, "delivered", "bkg_1") // of another run
	for _, r := range []reply{a.do("GET", path, nil).want(200), a.do("GET", sub+"/replays", nil).want(200)} {
		at := "data."
		if _, list := r.doc["data"].(map[string]any)["replays"]; list {
			at += "replays.0."
		}
		r.is(at+"progress.produced", 9, at+"progress.waiting", 1, at+"progress.finished", 8, at+"progress.delivered", 4, at+"progress.failed", 2,
			at+"progress.withheld", 1, at+"progress.superseded", 1, at+"progress.read_percent", 100)
	}
}

// The answer of a dry run is the count, when somebody counts.
func TestADryRunAnswersItsCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.key("admin")
	sub := a.subscribe("https://a.example/hook")
	a.do("POST", sub+"/toggle", nil).want(200) // what a disabled one has missed may be counted
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	counter := make(chan error, 1)
	go func() {
		testenv.Eventually(t, "there is something to count", func() bool {
			tag, err := w.sql.Exec(ctx, `update webhook_replays set state = 'done', finished_at = now(), progress = '{"matched": 42}' where dry_run`)
			if err != nil {
				counter <- err
				return true
			}
			return tag.RowsAffected() == 1
		})
		counter <- nil
	}()
	a.do("POST", sub+"/replays", map[string]any{"since": since(time.Hour), "dry_run": true}).want(200).
		is("data.state", "done", "data.progress.matched", 42, "data.progress.produced", 0, "data.dry_run", true, "message", "Counted; nothing was sent")
	if err := <-counter; err != nil {
		t.Error(fmt.Errorf("counting: %w", err))
	}
}
