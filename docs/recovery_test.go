package docs_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
)

const recovery = "RECOVERY.md"

// An outage is an endpoint that is ill, then well, and does not answer in the end.
type outage struct {
	*testenv.Endpoint

	state atomic.Int32
}

const (
	ill = iota
	well
	mute
)

func newOutage(t *testing.T) *outage {
	t.Helper()
	o, never := &outage{}, make(chan struct{})
	o.Endpoint = testenv.Receiver(t, func(testenv.Request) testenv.Response {
		switch o.state.Load() {
		case ill:
			return testenv.Response{Status: http.StatusInternalServerError}
		case mute:
			return testenv.Response{Hang: never}
		}
		return testenv.Response{}
	})
	return o
}

// ids counts the requests of each webhook-id since the first n.
func (o *outage) ids(n int) map[string]int {
	out := map[string]int{}
	for _, r := range o.All()[n:] {
		out[r.Header.Get("Webhook-Id")]++
	}
	return out
}

// The commands are run as they stand, one after the other, while an endpoint falls
// ill and gets well.
func TestTheDocumentedRecoveryIsRun(t *testing.T) {
	t.Parallel()
	p := run(t, map[string]string{"KRIB_RETRY_TIERS": "100ms,200ms"})
	o := newOutage(t)
	sub := p.subscribe(o.URL(), "booking.created", "host.response_needed")
	first := p.book()
	second := p.book()
	const attempts, deliveries = 3, 4
	dead := func() bool { return p.logged(sub, "deliveries?run=0&status=dead") == deliveries }
	testenv.Eventually(t, "all are dead", dead)
	if n := o.Count(); n != attempts*deliveries {
		t.Errorf("%d requests", n)
	}

	sh := newShell(t, p.dir, withPath(build(t), "KRIB_KAFKA_BROKERS="+strings.Join(p.KafkaBrokers, ",")))
	ran := map[string]bool{}
	block := func(name string) string {
		t.Helper()
		ran[name] = true
		return sh.run(named(t, recovery, name))
	}

	list, letter, _ := strings.Cut(block("dead"), "\n{\n")
	for _, booking := range []string{first, second} {
		row := regexp.MustCompile(`(?m)^\S+ +dlv_\S+ +0 +booking\.created +` + sub + ` +` + booking + ` +3 +exhausted +500$`)
		if !row.MatchString(list) || strings.Count(list, booking) != 2 {
			t.Errorf("of %s dead list says\n%s", booking, list)
		}
	}
	var shown struct {
		ID, Payload string
		Reason      string `json:"dead_reason"`
	}
	if err := json.Unmarshal([]byte("{"+letter), &shown); err != nil || !strings.Contains(list, shown.ID) || shown.Reason != "exhausted" || !strings.Contains(shown.Payload, `"data":`) {
		t.Errorf("dead show says %s: %v", letter, err)
	}

	had := o.Count()
	o.state.Store(well)
	if out := block("requeue"); !regexp.MustCompile(`^would requeue 4 deliveries as run \d+\nrequeued 4 deliveries as run \d+\n$`).MatchString(out) {
		t.Errorf("dead requeue says\n%s", out)
	}
	testenv.Eventually(t, "all arrive by hand", func() bool { return p.logged(sub, "deliveries?status=delivered&trigger=manual") == deliveries })
	if got := o.ids(had); len(got) != deliveries || o.Count() != had+deliveries {
		t.Errorf("requeued were %v", got)
	}

	account := regexp.MustCompile(`(?m)^` + sub + ` +agent_\S+ +4 +0 +0 +0 +4 +0 +0 +0 +0 +0$`)
	if out := block("audit"); !strings.Contains(out, "4 events from ") || !account.MatchString(out) || !dead() {
		t.Errorf("the audit says\n%s", out)
	}

	// What was delivered by hand has not failed any more: something else has to.
	o.state.Store(ill)
	p.book()
	testenv.Eventually(t, "the third is dead too", func() bool { return p.logged(sub, "deliveries?run=0&status=dead") == deliveries+2 })
	had = o.Count()
	o.state.Store(well)
	if out := block("replay"); !strings.Contains(out, "2 events would be sent\n") || !strings.Contains(out, "done: 100% read, 2 sent: 2 delivered, 0 waiting, 0 failed") {
		t.Errorf("the replay says\n%s", out)
	}
	if got := o.ids(had); len(got) != 2 || o.Count() != had+2 {
		t.Errorf("replayed were %v", got)
	}

	had = o.Count()
	if out := block("one"); !strings.Contains(out, "done: 100% read, 1 sent: 1 delivered") {
		t.Errorf("of one delivery the replay says\n%s", out)
	}
	if got := o.ids(had); len(got) != 1 || o.Count() != had+1 || o.All()[had].Header.Get("X-Webhook-Id") != shown.ID {
		t.Errorf("of one delivery there came %v", got)
	}

	const more = 60 // more events than a replay has on the way at a time, so that it cannot end
	for range more {
		p.book()
	}
	testenv.Eventually(t, "all have arrived", func() bool { return o.Count() == had+1+2*more })
	o.state.Store(mute)
	out := block("cancel")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) < 3 {
		t.Fatalf("of a replay that was cancelled they say\n%s", out)
	}
	id := strings.Fields(lines[1])[0] // the newest, under the head of the list
	if n := strings.Count(out, id); n != 3 || !strings.Contains(lines[len(lines)-1], id+" cancelled: ") {
		t.Errorf("of a replay that was cancelled they say\n%s", out)
	}
	for _, b := range blocks(t, recovery) {
		if !ran[b.name] {
			t.Errorf("%s was not run", filepath.Join(recovery, b.name))
		}
	}
}
