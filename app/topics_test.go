package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// onTopics runs a command of the program on a cluster.
func onTopics(t *testing.T, c *testenv.Cluster, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	env := func(name string) (string, bool) {
		return strings.Join(c.Config.Brokers, ","), name == "KRIB_KAFKA_BROKERS"
	}
	var out, errs bytes.Buffer
	code = app.Run(t.Context(), args, env, &out, &errs)
	return code, out.String(), errs.String()
}

// bury writes a dead letter that was given up so long ago.
func bury(t *testing.T, c *testenv.Cluster, id string, s schemas.SubscriptionID, e schemas.EventType, reason string, ago time.Duration) {
	t.Helper()
	at := time.Now().UTC().Truncate(time.Millisecond).Add(-ago)
	d := &schemas.Delivery{
		ID: schemas.DeliveryID(id), EventID: schemas.EventID("evt_" + id), EventType: e, SubscriptionID: s, AgentID: "agent_1", BookingID: "bkg_1", Sequence: 2,
		Attempt: 9, Hop: 17, Trigger: schemas.TriggerRetry, CreatedAt: at.Add(-28 * time.Hour), DeadReason: reason, LastStatus: 503, LastError: "status",
		Payload: `{"guest":"<Amira>"}`,
	}
	r, err := kafka.Encode(string(schemas.DeadLetters), string(s), d.Meta(at), d)
	if err != nil {
		t.Fatal(err)
	}
	r.Timestamp = at
	c.ProduceRecord(t, r)
}

func graveyard(t *testing.T) *testenv.Cluster {
	t.Helper()
	c := testenv.Topics(t, nil)
	for id, active := range map[schemas.SubscriptionID]bool{"sub_1": true, "sub_off": false} {
		s := &schemas.Subscription{ID: id, Version: 1, AgentID: "agent_1", Active: active, Secrets: []schemas.SealedSecret{}}
		c.Produce(t, string(schemas.Subscriptions), string(id), s.Meta(), s)
	}
	bury(t, c, "dlv_1", "sub_1", schemas.BookingCreated, "exhausted", 3*time.Hour)
	bury(t, c, "dlv_1", "sub_1", schemas.BookingCreated, "exhausted", 3*time.Hour) // as after a crash
	bury(t, c, "dlv_2", "sub_1", schemas.BookingConfirmed, "gone", time.Hour)
	bury(t, c, "dlv_3", "sub_off", schemas.BookingCreated, "exhausted", time.Hour)
	bury(t, c, "dlv_4", "sub_1", schemas.SubscriptionFailing, "exhausted", time.Minute)
	return c
}

func TestDeadLettersAreListedAndShown(t *testing.T) {
	c := graveyard(t)
	for filter, want := range map[string]string{
		"": "dlv_1 dlv_2 dlv_3 dlv_4", "--subscription sub_off": "dlv_3", "--reason gone": "dlv_2", "--event-type booking.created": "dlv_1 dlv_3",
		"--since 2h": "dlv_2 dlv_3 dlv_4", "--until 2h": "dlv_1", "--since 2h --until 30m": "dlv_2 dlv_3", "--subscription none": "",
	} {
		code, out, errs := onTopics(t, c, append([]string{"dead", "list", "--json"}, strings.Fields(filter)...)...)
		if code != 0 {
			t.Fatalf("%q ended with %d: %s", filter, code, errs)
		}
		ids := map[string]bool{}
		for line := range strings.Lines(out) {
			var l struct {
				ID, Reason string
				LastStatus int `json:"last_status"`
				Attempts   int
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil || l.Attempts != 9 || l.LastStatus != 503 || ids[l.ID] || strings.Contains(line, "Amira") {
				t.Errorf("%q: %v in %s", filter, err, line)
			}
			ids[l.ID] = true
		}
		for id := range strings.FieldsSeq(want) {
			if !ids[id] {
				t.Errorf("%q does not list %s", filter, id)
			}
			delete(ids, id)
		}
		if len(ids) > 0 {
			t.Errorf("%q lists %v too", filter, ids)
		}
	}
	_, table, _ := onTopics(t, c, "dead", "list", "--reason", "gone")
	if strings.Count(table, "\n") != 2 || !strings.Contains(table, "dlv_2") || !strings.Contains(table, "503") {
		t.Errorf("the table:\n%s", table)
	}
	code, shown, errs := onTopics(t, c, "dead", "show", "dlv_1")
	var d schemas.Delivery
	if err := json.Unmarshal([]byte(shown), &d); code != 0 || err != nil || d.Payload != `{"guest":"<Amira>"}` || d.DeadReason != "exhausted" {
		t.Errorf("shown with %d, %v: %s%s", code, err, shown, errs)
	}
	if code, _, errs := onTopics(t, c, "dead", "show", "dlv_none"); code != 1 || !strings.Contains(errs, "no dead letter") {
		t.Errorf("what is not there is shown with %d: %s", code, errs)
	}
}

func TestDeadLettersAreRequeuedOnceByTheirRun(t *testing.T) {
	c := graveyard(t)
	answer := func(args ...string) (a struct {
		Run                         int64
		DryRun                      bool `json:"dry_run"`
		Requeued, Already, Withheld int
	},
	) {
		t.Helper()
		code, out, errs := onTopics(t, c, append([]string{"dead", "requeue", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &a); code != 0 || err != nil {
			t.Fatalf("%v ended with %d, %v: %s%s", args, code, err, out, errs)
		}
		return a
	}
	if a := answer("--all", "--dry-run"); a.Requeued != 4 || a.Withheld != 1 || !a.DryRun {
		t.Errorf("dry run: %+v", a)
	}
	first := answer("--event-type", "booking.created", "--since", "2h")
	if first.Requeued != 1 || first.Withheld != 1 || first.Run < 1_700_000_000_000_000 {
		t.Errorf("first: %+v", first)
	}
	again := answer("--all", "--run", fmt.Sprint(first.Run))
	if again.Requeued != 3 || again.Already != 1 || again.Run != first.Run {
		t.Errorf("again: %+v", again)
	}
	if a := answer("--all", "--run", fmt.Sprint(first.Run)); a.Requeued != 0 || a.Already != 4 {
		t.Errorf("a third time: %+v", a)
	}
	for _, r := range c.Read(t, string(schemas.Deliveries), 4) {
		d, err := schemas.Decode[schemas.Delivery](r.Value)
		if err != nil {
			t.Fatal(err)
		}
		trigger := schemas.TriggerManual
		if d.ID == "dlv_4" {
			trigger = schemas.TriggerOperational
		}
		if d.Run != first.Run || d.AttemptsBefore != 9 || d.Attempt != 0 || d.Hop != 0 || d.Trigger != trigger || d.DeadReason != "" || d.LastStatus != 0 || time.Since(d.CreatedAt) > time.Hour ||
			d.Payload != `{"guest":"<Amira>"}` || d.EventID != schemas.EventID("evt_"+d.ID) || string(r.Key) != string(d.SubscriptionID) {
			t.Errorf("requeued as %+v", d)
		}
	}
	_, text, _ := onTopics(t, c, "dead", "requeue", "--subscription", "sub_off")
	if !strings.Contains(text, "requeued 1 deliveries as run") || !strings.Contains(text, "will be withheld") {
		t.Errorf("it says %s", text)
	}
}

func TestWhatIsWrongWithACommandOnTheTopicsIsOneLine(t *testing.T) {
	c := testenv.Topics(t, nil)
	for _, k := range []struct {
		says string
		args []string
	}{
		{"say list, show or requeue", []string{"dead"}},
		{"say list, show or requeue", []string{"dead", "delete"}},
		{"by a filter, or --all", []string{"dead", "requeue"}},
		{"by a filter, or --all", []string{"dead", "requeue", "--dry-run"}},
		{"--run must be", []string{"dead", "requeue", "--all", "--run", "-1"}},
		{"-since", []string{"dead", "list", "--since", "yesterday"}},
		{"too many", []string{"dead", "list", "please"}},
		{"the id of a delivery", []string{"dead", "show"}},
		{"-since", []string{"audit", "--since", "soon"}},
		{"--until must be after", []string{"audit", "--since", "1h", "--until", "2h"}},
		{"-grace", []string{"audit", "--grace", "forever"}},
		{"too many", []string{"audit", "please"}},
	} {
		code, out, errs := onTopics(t, c, k.args...)
		if code != 2 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, k.says) {
			t.Errorf("krib %q ended with %d, and says %q, not %q", k.args, code, errs, k.says)
		}
	}
	for _, args := range [][]string{{"dead", "list"}, {"audit"}} {
		if code, _, errs := onTopics(t, &testenv.Cluster{}, args...); code != 2 || !strings.Contains(errs, "KRIB_KAFKA_BROKERS") {
			t.Errorf("without brokers %v ends with %d: %s", args, code, errs)
		}
	}
	if code, out, errs := onTopics(t, c, "audit", "-h"); code != 0 || !strings.Contains(out, "-grace") || errs != "" {
		t.Errorf("-h ends with %d: %s%s", code, out, errs)
	}
}

func TestTheAuditsStatusSaysWhetherAnythingIsMissing(t *testing.T) {
	c := testenv.Topics(t, nil)
	at := time.Now().UTC().Add(-time.Hour)
	put := func(topic, key string, meta schemas.Meta, v any, after time.Duration) {
		t.Helper()
		r, err := kafka.Encode(topic, key, meta, v)
		if err != nil {
			t.Fatal(err)
		}
		r.Timestamp = at.Add(after)
		c.ProduceRecord(t, r)
	}
	s := &schemas.Subscription{ID: "sub_1", Version: 1, AgentID: "agent_1", Active: true, Events: []schemas.EventType{schemas.BookingCreated}, Secrets: []schemas.SealedSecret{}}
	put(string(schemas.Subscriptions), "sub_1", s.Meta(), s, 0)
	e := &schemas.Event{ID: "evt_1", Type: schemas.BookingCreated, Version: 1, HostWebhooks: true, Changed: []string{}, Booking: schemas.Booking{ID: "bkg_1", AgentID: "agent_1", CheckIn: "2030-01-01", CheckOut: "2030-01-02"}}
	put(string(schemas.BookingEvents), "bkg_1", e.Meta(), e, time.Minute)
	code, out, errs := onTopics(t, c, "audit", "--since", "2h")
	if code != 1 || !strings.Contains(out, "missing: evt_1 (booking.created") || errs != "krib audit: 1 of the deliveries that had to be made are missing\n" {
		t.Errorf("with a delivery missing it ended with %d:\n%s%s", code, out, errs)
	}
	d := &schemas.Delivery{ID: schemas.DeliveryFor("evt_1", "sub_1"), EventID: "evt_1", EventType: e.Type, SubscriptionID: "sub_1", AgentID: "agent_1", Trigger: schemas.TriggerEvent, CreatedAt: at}
	put(string(schemas.Deliveries), "sub_1", d.Meta(at), d, 2*time.Minute)
	code, out, errs = onTopics(t, c, "audit", "--since", at.Add(-time.Minute).Format(time.RFC3339), "--json")
	var r struct {
		Events        int
		Subscriptions []struct{ Matched, Waiting int }
		Missing       []any
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r.Events != 1 || len(r.Subscriptions) != 1 || r.Subscriptions[0].Waiting != 1 || len(r.Missing) != 0 {
		t.Errorf("with all there it ended with %d, %v:\n%s%s", code, err, out, errs)
	}
	if code, _, _ := onTopics(t, c, "audit", "--since", "30m"); code != 0 {
		t.Errorf("the event is not in the window, and it ended with %d", code)
	}
}

// What was accepted and is on no topic is counted too: the account is complete only
// when the outbox is, and ends with one line that says so.
func TestTheAuditCountsTheOutbox(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	database := testenv.Database(t)
	db, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(t.Context())) }()
	vars := map[string]string{"KRIB_KAFKA_BROKERS": strings.Join(c.Config.Brokers, ","), "DATABASE_URL": database}
	const row = `insert into outbox (topic, key, headers, value, created_at) values ('booking.events', 'k', '[]', '{}', now() - interval `
	for _, step := range []struct {
		sql, grace string
		code       int
		verdict    string
	}{
		{"select", "1m", 0, "complete: 0 deliveries of 0 events are accounted for; the outbox is empty"},
		{row + "'5 seconds')", "1h", 0, "complete: 0 deliveries of 0 events are accounted for; the outbox has 1 row of the last 1h0m0s"},
		{row + "'8 minutes')", "1m", 1, "incomplete: 2 rows in the outbox, the oldest since 8m"},
		{"select", "0", 1, "incomplete: 2 rows in the outbox"},
		{"delete from outbox", "0", 0, "; the outbox is empty"},
		{"insert into outbox_stuck (id, topic, key, headers, value, created_at, error) values (1, 't', 'k', '[]', '', now(), 'too large')", "1m", 1, "incomplete: 1 row refused by Kafka"},
	} {
		if _, err := db.Exec(t.Context(), step.sql); err != nil {
			t.Fatal(err)
		}
		code, out, errs := commandLine(t, vars, "audit", "--grace", step.grace)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if last := lines[len(lines)-1]; code != step.code || !strings.Contains(last, step.verdict) || (errs == "") != (code == 0) {
			t.Errorf("after %s it ended with %d: %s%s, want %q", step.sql, code, out, errs, step.verdict)
		}
		code, out, _ = commandLine(t, vars, "audit", "--json", "--grace", step.grace)
		var r struct {
			Complete bool
			Verdict  string
			Outbox   *struct{ Rows int }
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != step.code || r.Complete != (code == 0) || !strings.Contains(r.Verdict, step.verdict) || r.Outbox == nil {
			t.Errorf("as JSON it ended with %d, %v: %s", code, err, out)
		}
	}
	delete(vars, "DATABASE_URL")
	if code, out, _ := commandLine(t, vars, "audit"); code != 0 || !strings.HasSuffix(out, "; the outbox was not counted\n") {
		t.Errorf("without a database it ended with %d: %s", code, out)
	}
	vars["DATABASE_URL"] = "postgres://krib@127.0.0.1:1/krib"
	if code, _, errs := commandLine(t, vars, "audit"); code != 1 || !strings.Contains(errs, "Postgres") {
		t.Errorf("with a database that is away it ended with %d: %s", code, errs)
	}
}
