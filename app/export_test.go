package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// booked is a cluster with three events of two bookings, published three, two and
// one hour ago.
func booked(t *testing.T) *testenv.Cluster {
	t.Helper()
	c := testenv.Topics(t, nil)
	for i, name := range []string{"created", "confirmed", "full"} {
		b, err := os.ReadFile("../schemas/testdata/v1/booking-event." + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		e, err := schemas.Decode[schemas.Event](b)
		if err != nil {
			t.Fatal(err)
		}
		key := []string{"bkg_1", "bkg_1", "bkg_2"}[i]
		r, err := kafka.Encode(string(schemas.BookingEvents), key, e.Meta(), &e)
		if err != nil {
			t.Fatal(err)
		}
		r.Timestamp = time.Now().Add(-time.Duration(3-i) * time.Hour)
		c.ProduceRecord(t, r)
	}
	return c
}

func TestATopicIsPrintedFromAMomentOn(t *testing.T) {
	t.Parallel()
	c := booked(t)
	for args, want := range map[string]int{
		"--since 24h": 3, "--since 150m": 2, "--since 24h --key bkg_1": 2, "--since 24h --key none": 0, "": 0,
	} {
		for _, format := range []string{"", " --json"} {
			code, out, errs := onTopics(t, c, strings.Fields("tail --topic booking.events "+args+format)...)
			if code != 0 || strings.Count(out, "\n") != want || strings.Count(out, "aisha.khan@example.com") != want || errs != "" {
				t.Errorf("krib tail %s%s ended with %d, not with %d lines:\n%s%s", args, format, code, want, out, errs)
			}
			for line := range strings.Lines(out) {
				if format != "" && !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %s", line)
				}
			}
		}
	}
	_, out, _ := onTopics(t, c, "tail", "--topic", "booking.events", "--since", "24h", "--key", "bkg_2", "--redact", "drop")
	if !strings.Contains(out, " bkg_2 booking.cancelled {") || strings.Contains(out, "aisha") {
		t.Errorf("redacted it says %s", out)
	}
}

// awaited is written to by a command that runs, and tells of each line.
type awaited struct {
	io.Writer

	lines chan string
}

func (a awaited) Write(b []byte) (int, error) {
	a.lines <- string(b)
	return len(b), nil
}

func TestATopicIsFollowedUntilOneStopsIt(t *testing.T) {
	t.Parallel()
	c := booked(t)
	env := func(name string) (string, bool) {
		return strings.Join(c.Config.Brokers, ","), name == "KRIB_KAFKA_BROKERS"
	}
	ctx, stop := context.WithCancel(t.Context())
	out, ended := awaited{lines: make(chan string, 10)}, make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		ended <- app.Run(ctx, []string{"tail", "--topic", "booking.events", "--since", "90m", "--follow", "--json"}, env, out, &errs)
	}()
	if first := <-out.lines; !strings.Contains(first, `"key":"bkg_2"`) {
		t.Errorf("first it says %s", first)
	}
	c.ProduceRecord(t, kafka.Record("booking.events", "bkg_3", schemas.Meta{ID: "evt_9"}, []byte("{}")))
	if next := <-out.lines; !strings.Contains(next, `"key":"bkg_3"`) {
		t.Errorf("then it says %s", next)
	}
	stop()
	if code := <-ended; code != 0 || errs.Len() > 0 {
		t.Errorf("stopped it ended with %d: %s", code, &errs)
	}
}

func TestATopicIsExported(t *testing.T) {
	t.Parallel()
	c := booked(t)
	dir := t.TempDir()
	ndjson, file := filepath.Join(dir, "events.ndjson"), filepath.Join(dir, "events.parquet")
	export := func(args string) (code int, out, errs string) {
		t.Helper()
		return onTopics(t, c, append([]string{"export", "--topic", "booking.events"}, strings.Fields(args)...)...)
	}
	if code, out, errs := export("--since 24h --until 90m"); code != 0 || strings.Count(out, "\n") != 2 || errs != "" {
		t.Errorf("of the two that are older than 90 minutes it writes, with %d:\n%s%s", code, out, errs)
	}
	if code, out, errs := export("--out " + ndjson); code != 0 || out != "" || !strings.Contains(errs, "3 records of booking.events are in ") {
		t.Errorf("to a file it ended with %d: %s%s", code, out, errs)
	}
	if b, err := os.ReadFile(ndjson); err != nil || bytes.Count(b, []byte("\n")) != 3 {
		t.Errorf("the file says %s, %v", b, err)
	}
	if code, _, errs := export("--out " + ndjson); code != 1 || !strings.Contains(errs, "is there already; --force writes over it") {
		t.Errorf("over a file it ended with %d: %s", code, errs)
	}
	if code, _, errs := export("--force --key bkg_2 --out " + ndjson); code != 0 {
		t.Errorf("with force it ended with %d: %s", code, errs)
	}
	if b, _ := os.ReadFile(ndjson); bytes.Count(b, []byte("\n")) != 1 {
		t.Errorf("then the file says %s", b)
	}
	code, _, errs := export("--format parquet --redact hash --out " + file)
	if code != 0 || !strings.Contains(errs, "KRIB_REDACT_KEY is not set") {
		t.Errorf("to Parquet it ended with %d: %s", code, errs)
	}
	rows, err := parquet.ReadFile[struct {
		Version *int64 `parquet:"version,optional"`
		Email   string `parquet:"guest_email,optional"`
	}](file)
	if err != nil || len(rows) != 3 || *rows[0].Version == 0 || !strings.HasPrefix(rows[0].Email, "hmac-sha256:") || rows[0].Email != rows[2].Email {
		t.Errorf("the rows are %+v, %v", rows, err)
	}
}

func TestWhatRedactionLeavesOutIsSaid(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	c.ProduceRecord(t, kafka.Record("booking.events", "k", schemas.Meta{Schema: "of-tomorrow"}, []byte(`{"guest":"Aisha"}`)))
	code, out, errs := onTopics(t, c, "export", "--topic", "booking.events", "--redact", "drop")
	if code != 0 || !strings.Contains(out, `"value":null`) || strings.Contains(out, "Aisha") || !strings.Contains(errs, "the values of 1 records are left out") {
		t.Errorf("it ended with %d: %s%s", code, out, errs)
	}
}

func TestWhatIsWrongWithTailAndExportIsOneLine(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	for _, k := range []struct {
		says string
		args string
		code int
	}{
		{"--topic is needed", "tail", 2},
		{"--topic is needed", "export --since 1h", 2},
		{"-since", "tail --topic booking.events --since yesterday", 2},
		{"must be ndjson or parquet", "export --topic booking.events --format csv", 2},
		{"--out is needed for parquet", "export --topic booking.events --format parquet", 2},
		{"--until must be after --since", "export --topic booking.events --since 1h --until 2h", 2},
		{"must be drop or hash", "tail --topic booking.events --redact all", 2},
		{"set KRIB_REDACT_KEY", "tail --topic booking.events --redact hash --redact-key short", 2},
		{"too many", "export --topic booking.events please", 2},
		{"no.such.topic", "tail --topic no.such.topic", 1},
		{"no.such.topic", "export --topic no.such.topic", 1},
	} {
		code, out, errs := onTopics(t, c, strings.Fields(k.args)...)
		if code != k.code || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, k.says) || strings.Contains(errs, "short") {
			t.Errorf("krib %s ended with %d, and says %q%q, not %q", k.args, code, out, errs, k.says)
		}
	}
}

// A transaction that stays open holds the export up, so it is interrupted half way.
func TestAnInterruptedExportLeavesNoFile(t *testing.T) {
	t.Parallel()
	c := booked(t)
	cl, err := kgo.NewClient(append(c.Config.Options("open"), kafka.TransactionalOptions("open")...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "booking.events", Key: []byte("bkg_1")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	env := func(name string) (string, bool) {
		return strings.Join(c.Config.Brokers, ","), name == "KRIB_KAFKA_BROKERS"
	}
	ended := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		args := []string{"export", "--topic", "booking.events", "--format", "parquet", "--out", filepath.Join(dir, "events.parquet")}
		ended <- app.Run(ctx, args, env, io.Discard, &errs)
	}()
	testenv.Eventually(t, "it has begun to write", func() bool {
		files, _ := os.ReadDir(dir)
		return len(files) == 1
	})
	stop()
	code := <-ended
	if files, _ := os.ReadDir(dir); code != 1 || len(files) != 0 || strings.Count(errs.String(), "\n") != 1 {
		t.Errorf("it ended with %d and left %v: %s", code, files, &errs)
	}
}
