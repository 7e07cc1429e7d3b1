package docs_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	svix "github.com/svix/svix-webhooks/go"

	"github.com/krib-ai/krib/internal/testenv"
)

// What the table of docs/AGENTS.md says is to be seen, each with a test.
const (
	toSeeRetries   = "retries and dead letters in seconds"
	toSeeExpiry    = "requests run out, with reminders before"
	toSeeWebhooks  = "webhooks on your machine, from a Krib elsewhere"
	toSeeAnswers   = "what your endpoint answers"
	toSeeASmallKey = "a key that may do less"
	toSeeARestart  = "a restart in the middle"
	toSeeAReset    = "everything from the beginning"
)

var (
	tableRow = regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|$`)
	codeSpan = regexp.MustCompile("`([^`]+)`")
)

// toDo are the rows of the table: what stands as code in each, by what is to be
// seen.
func toDo(t *testing.T) map[string][]string {
	t.Helper()
	_, table, found := strings.Cut(read(t, agents), "\n## Testing against `make run`\n")
	if !found {
		t.Fatal("the document has no such part")
	}
	rows := map[string][]string{}
	for _, row := range tableRow.FindAllStringSubmatch(table, -1)[1:] { // without its head
		for _, span := range codeSpan.FindAllStringSubmatch(row[2], -1) {
			rows[row[1]] = append(rows[row[1]], span[1])
		}
	}
	return rows
}

// codeFor is the code of a row, which has so many pieces of it.
func codeFor(t *testing.T, toSee string, n int) []string {
	t.Helper()
	code := toDo(t)[toSee]
	if len(code) != n {
		t.Fatalf("to see %s the document says %q", toSee, code)
	}
	return code
}

func TestEverythingThatTheDocumentSaysToTryIsTried(t *testing.T) {
	t.Parallel()
	want := []string{toSeeRetries, toSeeExpiry, toSeeWebhooks, toSeeAnswers, toSeeASmallKey, toSeeARestart, toSeeAReset}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(toDo(t))); !slices.Equal(got, want) {
		t.Errorf("the document says how to see %q, and the tests see %q", got, want)
	}
}

// started reads how a document starts the program: variables and `make run`, or `go
// run . dev` and flags, which is what make runs.
func started(t *testing.T, command string) (env map[string]string, flags []string) {
	t.Helper()
	const plain = "go run . dev"
	if !strings.Contains(read(t, "../Makefile"), "\nrun: ## everything in one process, with its own Kafka and Postgres\n\t$(GO) run . dev\n") {
		t.Fatalf("make run is not %s", plain)
	}
	env = map[string]string{}
	words := strings.Fields(command)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		name, value, _ := strings.Cut(words[0], "=")
		env[name], words = value, words[1:]
	}
	rest := strings.Join(words, " ")
	flagged, ok := strings.CutPrefix(rest, plain)
	if rest != "make run" && !ok {
		t.Fatalf("%q does not start it", command)
	}
	if ok {
		flags = strings.Fields(flagged)
	}
	return env, flags
}

func TestTheDocumentedTiersShowRetriesAndADeadLetter(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeRetries, 1)
	env, _ := started(t, code[0])
	p := run(t, env)
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		return testenv.Response{Status: http.StatusInternalServerError}
	})
	sub := p.subscribe(endpoint.URL(), "booking.created")
	p.book()
	tiers := strings.Split(env["KRIB_RETRY_TIERS"], ",")
	before := endpoint.Next(t).At
	for _, tier := range tiers {
		delay, err := time.ParseDuration(tier)
		if err != nil {
			t.Fatal(err)
		}
		at := endpoint.Next(t).At
		if at.Sub(before) < delay {
			t.Errorf("the attempt after %s came after %v", tier, at.Sub(before))
		}
		before = at
	}
	testenv.Eventually(t, "the delivery is dead", func() bool { return p.logged(sub, "deliveries?status=dead") == 1 })
	if n := p.logged(sub, "attempts?http_status=500"); n != 1+len(tiers) || endpoint.Count() != n {
		t.Errorf("%d attempts in the log, %d at the endpoint", n, endpoint.Count())
	}
}

func TestTheDocumentedTimeShowsRemindersAndTheExpiry(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeExpiry, 1)
	env, _ := started(t, code[0])
	ttl, err := time.ParseDuration(env["KRIB_BOOKING_TTL"])
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, env)
	endpoint := testenv.Receiver(t, nil)
	p.subscribe(endpoint.URL(), "host.response_needed", "booking.cancelled")
	booking := p.book()
	var first time.Time
	for _, want := range []string{"host.response_needed created", "host.response_needed half", "host.response_needed nine_tenths", "booking.cancelled expired"} {
		r := endpoint.Next(t)
		var body struct {
			Type      string `json:"event_type"`
			BookingID string `json:"booking_id"`
			Data      struct {
				Reminder string
				Details  struct {
					Reason string `json:"cancellation_reason"`
				} `json:"booking_details"`
			}
		}
		if err := json.Unmarshal(r.Body, &body); err != nil {
			t.Fatal(err)
		}
		if got := body.Type + " " + body.Data.Reminder + body.Data.Details.Reason; got != want || body.BookingID != booking {
			t.Errorf("there came %s of %s, want %s", got, body.BookingID, want)
		}
		if first.IsZero() {
			first = r.At
		}
		if took := r.At.Sub(first); want == "booking.cancelled expired" && took < ttl-time.Second {
			t.Errorf("it ran out after %v", took)
		}
	}
}

func TestTheDocumentedListenerForwards(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeWebhooks, 3)
	const there = "http://127.0.0.1:3000"
	p := run(t, nil)
	local := testenv.Receiver(t, nil)
	given := map[string]string{"KRIB_API_URL": p.APIURL, "KRIB_API_KEY": p.APIKey}
	env := withPath(build(t))
	for _, name := range code[1:] {
		env = append(env, name+"="+given[name])
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+strings.Replace(code[0], there, local.URL(), 1))
	cmd.Dir, cmd.Env = t.TempDir(), env
	notes, err := os.CreateTemp(t.TempDir(), "notes")
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	cmd.Stderr = notes
	said := func() string { return read(t, notes.Name()) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "krib listen is ready", func() bool { return strings.Contains(said(), "listening to "+p.APIURL) })
	booking := p.book()
	r := local.Next(t)
	_, after, _ := strings.Cut(said(), "signing secret: ")
	secret, _, _ := strings.Cut(after, "\n")
	hook, err := svix.NewWebhook(strings.TrimSpace(secret))
	if err != nil {
		t.Fatalf("%v: %s", err, said())
	}
	if err := hook.Verify(r.Body, r.Header); err != nil || r.Path != "/webhooks" || !strings.Contains(string(r.Body), booking) {
		t.Errorf("to %s came %s: %v", r.Path, r.Body, err)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("krib listen ended with %v: %s", err, said())
	}
}

func TestTheDocumentedTestShowsWhatTheEndpointAnswers(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeAnswers, 3)
	p := run(t, nil)
	endpoint := testenv.Receiver(t, func(testenv.Request) testenv.Response {
		return testenv.Response{Status: http.StatusTeapot, Body: []byte("short and stout")}
	})
	sub := p.subscribe(endpoint.URL(), "booking.created")
	path := func(span, method string) string {
		t.Helper()
		at, ok := strings.CutPrefix(span, method+" …/")
		if !ok {
			t.Fatalf("%q is no %s", span, method)
		}
		return "/api/v1/external/" + strings.Replace(at, "{id}", sub, 1)
	}
	p.send(http.MethodPost, path(code[0], http.MethodPost), p.APIKey, json.RawMessage(code[1]))
	if r := endpoint.Next(t); r.Header.Get("X-Webhook-Event") != "test.webhook" {
		t.Errorf("it was sent %v", r.Header)
	}
	testenv.Eventually(t, "the attempt is in the log with what was answered", func() bool {
		_, doc := p.send(http.MethodGet, path(code[2], http.MethodGet), p.APIKey, nil)
		b, err := json.Marshal(doc)
		return err == nil && strings.Contains(string(b), "418") && strings.Contains(string(b), "short and stout")
	})
}

func TestTheDocumentedKeyCanOnlyRead(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeASmallKey, 3)
	p := run(t, nil)
	given := map[string]string{"DATABASE_URL": p.DatabaseURL}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", code[0])
	cmd.Env = withPath(build(t), code[1]+"="+given[code[1]])
	out, err := cmd.CombinedOutput()
	key := regexp.MustCompile(`(?m)^krib_\w+$`).FindString(string(out))
	if err != nil || key == "" {
		t.Fatalf("%v\n%s", err, out)
	}
	if status, doc := p.send(http.MethodGet, "/api/v1/properties/search?city=Dubai", key, nil); status != http.StatusOK {
		t.Errorf("it cannot read: %d %v", status, doc)
	}
	for method, path := range map[string]string{
		http.MethodPost: "/api/v1/bookings", http.MethodGet: "/api/v1/external/events", http.MethodDelete: "/api/v1/external/webhook-subscriptions/sub_1",
	} {
		if status, doc := p.send(method, path, key, map[string]any{}); status != http.StatusForbidden || doc["code"] != "missing_scope" {
			t.Errorf("%s %s answers it %d %v", method, path, status, doc)
		}
	}
}

func TestTheDocumentedRestartKeepsKeysBookingsAndCursors(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeARestart, 1)
	env, flags := started(t, code[0])
	dir := t.TempDir()
	before := start(t, dir, env, flags...)
	begin := before.call(http.MethodGet, "/api/v1/external/events", nil)["next_cursor"].(string)
	booking := before.book()
	testenv.Eventually(t, "its events are in the log", func() bool { return len(before.events(begin)) == 2 })
	had := before.events(begin)
	before.stop()
	after := start(t, dir, env, flags...)
	if after.APIKey != before.APIKey || after.HostID != before.HostID {
		t.Errorf("the key %.10s… is %.10s… now, the host %s %s", before.APIKey, after.APIKey, before.HostID, after.HostID)
	}
	if status := after.call(http.MethodGet, "/api/v1/external/bookings/"+booking+"/status", nil); status["status"] != "pending" {
		t.Errorf("the booking is %v", status)
	}
	if got := after.events(begin); !slices.Equal(got, had) {
		t.Errorf("behind the cursor are %v, and were %v", got, had)
	}
	after.stays = before.stays
	after.book()
	testenv.Eventually(t, "the next one's events are behind the same cursor", func() bool { return len(after.events(begin)) == 4 })
}

func TestTheDocumentedResetBeginsAnew(t *testing.T) {
	t.Parallel()
	code := codeFor(t, toSeeAReset, 1)
	dir := t.TempDir()
	before := start(t, dir, nil)
	cursor := before.call(http.MethodGet, "/api/v1/external/events", nil)["next_cursor"].(string)
	booking := before.book()
	before.stop()
	env, flags := started(t, code[0])
	after := start(t, dir, env, flags...)
	if status, doc := after.send(http.MethodGet, "/api/v1/properties/search?city=Dubai", before.APIKey, nil); status != http.StatusUnauthorized {
		t.Errorf("the key of before is answered %d %v", status, doc)
	}
	if status, doc := after.send(http.MethodGet, "/api/v1/external/bookings/"+booking+"/status", after.APIKey, nil); status != http.StatusNotFound {
		t.Errorf("the booking of before is answered %d %v", status, doc)
	}
	if status, doc := after.send(http.MethodGet, "/api/v1/external/events?after="+cursor, after.APIKey, nil); status == http.StatusOK {
		t.Errorf("the cursor of before is answered %v", doc)
	}
	after.book() // the nights are free again
}
