package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/export"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const events = string(schemas.BookingEvents)

// put writes a record whose value is a number.
func put(t *testing.T, c *testenv.Cluster, key string, n int, at time.Time) {
	t.Helper()
	c.ProduceRecord(t, &kgo.Record{Topic: events, Key: []byte(key), Value: fmt.Append(nil, n), Timestamp: at})
}

// values are those of all records that an export has, by partition, in its order.
func values(t *testing.T, o export.Options, during func()) map[int32][]string {
	t.Helper()
	out := map[int32][]string{}
	last := map[int32]int64{}
	_, err := export.Read(t.Context(), o, func(r *export.Record) error {
		if during != nil {
			during()
		}
		if before, ok := last[r.Partition]; ok && before >= r.Offset {
			t.Errorf("partition %d: %d after %d", r.Partition, r.Offset, before)
		}
		last[r.Partition] = r.Offset
		out[r.Partition] = append(out[r.Partition], string(r.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func count(by map[int32][]string) (n int) {
	for _, vs := range by {
		n += len(vs)
	}
	return n
}

func TestAnExportIsWhatWasCommittedWhenItBegan(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	for i := range 60 {
		put(t, c, fmt.Sprint("k", i%7), i, time.Now())
	}
	abort(t, c, []byte("-1"))
	n := 1000
	got := values(t, export.Options{Kafka: c.Config, Topic: events}, func() {
		put(t, c, fmt.Sprint("k", n%7), n, time.Now())
		n++
	})
	seen := map[string]bool{}
	for _, vs := range got {
		for _, v := range vs {
			if seen[v] || len(v) > 2 || v == "-1" {
				t.Errorf("%s is there, twice, or was not committed when it began", v)
			}
			seen[v] = true
		}
	}
	if len(seen) != 60 {
		t.Errorf("%d records of 60", len(seen))
	}
	if got := values(t, export.Options{Kafka: c.Config, Topic: events, Key: "k3"}, nil); len(got) != 1 || count(got) < 9 {
		t.Errorf("of one key there are %v", got)
	}
}

// What was acknowledged before an export is in it, also when its transaction is
// committed while the export waits.
func TestAnExportWaitsForTransactionsThatWereOpen(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	cl, err := kgo.NewClient(append(c.Config.Options("slow"), kafka.TransactionalOptions("slow")...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kafka.ToPartition(&kgo.Record{Topic: events, Key: []byte("a"), Value: []byte("1")}, 0)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c.ProduceRecord(t, kafka.ToPartition(&kgo.Record{Topic: events, Key: []byte("b"), Value: []byte("2")}, 1))
	committed := false
	got := values(t, export.Options{Kafka: c.Config, Topic: events}, func() {
		if committed {
			return
		}
		committed = true // the other partition's record is there, so the ends are known
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Error(err)
		}
	})
	if fmt.Sprint(got) != "map[0:[1] 1:[2]]" {
		t.Errorf("exported are %v", got)
	}
}

// abort leaves a transaction's record that was taken back.
func abort(t *testing.T, c *testenv.Cluster, value []byte) {
	t.Helper()
	cl, err := kgo.NewClient(append(c.Config.Options("aborter"), kafka.TransactionalOptions("aborter")...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: events, Key: []byte("k1"), Value: value}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
}

func TestAWindowIsExactAlsoWhereClocksDiffer(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	for i, minute := range []int{0, 10, 9, 20, 19, 30, 11} {
		put(t, c, "one", i, at.Add(time.Duration(minute)*time.Minute))
	}
	got := values(t, export.Options{Kafka: c.Config, Topic: events, Since: at.Add(10 * time.Minute), Until: at.Add(20 * time.Minute)}, nil)
	if s := fmt.Sprint(got); !strings.Contains(s, "[1 4 6]") {
		t.Errorf("from minute 10 to 20 are %s", s)
	}
}

func TestAFollowedTopicGoesOnUntilItIsStopped(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	put(t, c, "a", 0, time.Now())
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	_, err := export.Read(ctx, export.Options{Kafka: c.Config, Topic: events, Since: time.Now().Add(-time.Minute), Follow: true}, func(r *export.Record) error {
		if string(r.Value) != fmt.Sprint(n) {
			t.Errorf("%s, want %d", r.Value, n)
		}
		if n++; n == 20 {
			stop()
			return nil
		}
		put(t, c, fmt.Sprint("key", n), n, time.Now()) // most are on other partitions, which had nothing
		return nil
	})
	if n != 20 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d records, and %v", n, err)
	}
}

func TestALineOfJSONIsTheRecord(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	c.ProduceRecord(t, kafka.Record(events, "bkg_1", schemas.Meta{ID: "evt_1", Type: "booking.created", Schema: "booking-event"}, []byte(`{"a": "<b>", "n": 950.00}`)))
	c.ProduceRecord(t, &kgo.Record{Topic: events, Key: []byte("bkg_1")})
	c.ProduceRecord(t, &kgo.Record{Topic: events, Key: []byte("bkg_1"), Value: []byte("not JSON")})
	var out bytes.Buffer
	w := export.NewLines(&out)
	if _, err := export.Read(t.Context(), export.Options{Kafka: c.Config, Topic: events}, w.Write); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range []string{`"value":{"a":"<b>","n":950.00}}`, `"headers":{},"value":null}`, `"value":null,"value_base64":"bm90IEpTT04="}`, ""} {
		if i >= len(lines) || !strings.HasSuffix(lines[i], want) {
			t.Fatalf("line %d does not end in %s:\n%s", i, want, &out)
		}
	}
	var r export.Record
	if err := json.Unmarshal([]byte(lines[0]), &r); err != nil || r.Topic != events || r.Key != "bkg_1" || r.Headers["ce_id"] != "evt_1" || r.Timestamp.IsZero() {
		t.Errorf("%+v, %v", r, err)
	}
	redacted := export.NewRedactor(export.Drop, "")
	done, err := export.Read(t.Context(), export.Options{Kafka: c.Config, Topic: events, Redactor: redacted}, func(r *export.Record) error {
		if r.Raw != nil || strings.Contains(string(r.Value), "not") {
			t.Errorf("redaction shows what is no JSON: %+v", r)
		}
		return nil
	})
	if err != nil || done.Withheld != 1 || done.Records != 3 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestAParquetFileHasTypedColumns(t *testing.T) {
	t.Parallel()
	value, err := os.ReadFile("../../schemas/testdata/v1/booking-event.full.json")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 2, 9, 30, 0, 0, time.UTC)
	var out bytes.Buffer
	w := export.NewParquet(&out, events)
	for _, r := range []*export.Record{
		{Topic: events, Partition: 2, Offset: 7, Timestamp: at, Key: "bkg_1", Headers: map[string]string{"ce_id": "evt_1", "ce_type": "t", "ce_time": "2026-03-02T09:30:00Z"}, Value: value},
		{Topic: events, Offset: 8, Timestamp: at, Raw: []byte("no JSON")},
		{Topic: events, Offset: 9, Timestamp: at, Value: []byte(`{"version":"no event"}`)},
	} {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rows := rowsOf[struct {
		Offset   int64           `parquet:"offset"`
		Key      string          `parquet:"key"`
		ID       string          `parquet:"ce_id,optional"`
		Type     string          `parquet:"event_type,optional"`
		Time     *time.Time      `parquet:"occurred_at,timestamp(microsecond)"`
		Version  *int64          `parquet:"version,optional"`
		CheckIn  *int32          `parquet:"check_in,optional,date"`
		Total    *int64          `parquet:"total_amount_minor,optional"`
		Currency string          `parquet:"currency,optional"`
		Paid     *int64          `parquet:"payment_event_amount_minor,optional"`
		Email    string          `parquet:"guest_email,optional"`
		Value    json.RawMessage `parquet:"value,optional,json"`
		Raw      []byte          `parquet:"value_raw,optional"`
	}](t, out.Bytes())
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	r := rows[0]
	if r.Offset != 7 || r.Key != "bkg_1" || r.ID != "evt_1" || r.Type != "booking.cancelled" || !r.Time.Equal(at) || *r.Version != 5 || time.Unix(int64(*r.CheckIn)*86400, 0).UTC().Format(time.DateOnly) != "2026-04-10" ||
		*r.Total != 95000 || r.Currency != "AED" || *r.Paid != 7 || r.Email != "aisha.khan@example.com" || string(r.Value) != string(value) || r.Raw != nil {
		t.Errorf("%+v", r)
	}
	if r := rows[1]; r.Value != nil || string(r.Raw) != "no JSON" || r.Version != nil || r.CheckIn != nil {
		t.Errorf("of no JSON: %+v", r)
	}
	if r := rows[2]; r.Value == nil || r.Version != nil || r.Total != nil {
		t.Errorf("of no event: %+v", r)
	}
	schema := opened(t, out.Bytes()).Schema().String()
	for _, want := range []string{
		"optional int64 total_amount_minor", "optional int32 check_in (DATE)", "required int64 timestamp (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS))",
		"optional binary value (JSON)", "optional binary currency (STRING)", "optional int32 nights",
	} {
		if !strings.Contains(schema, want) {
			t.Errorf("no column %q in\n%s", want, schema)
		}
	}
}

func opened(t *testing.T, file []byte) *parquet.File {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRowGroupsAreBoundedInBytesAndRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ rows, bytes, groups int }{
		"large values": {5, 8 << 20, 3}, "many": {40_001, 2, 3},
	} {
		var out bytes.Buffer
		w := export.NewParquet(&out, string(schemas.Deliveries))
		value := []byte(`"` + strings.Repeat("x", c.bytes-2) + `"`)
		for i := range c.rows {
			if err := w.Write(&export.Record{Offset: int64(i), Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f := opened(t, out.Bytes())
		if len(f.RowGroups()) != c.groups || f.NumRows() != int64(c.rows) {
			t.Errorf("%s: %d rows in %d groups, want %d", name, f.NumRows(), len(f.RowGroups()), c.groups)
		}
	}
}

func TestAnExportThatIsInterruptedLeavesNothing(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	for i := range 10 {
		put(t, c, "k", i, time.Now())
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "events.parquet")
	ctx, stop := context.WithCancel(t.Context())
	interrupted := func(w io.Writer) error {
		lines := export.NewLines(w)
		_, err := export.Read(ctx, export.Options{Kafka: c.Config, Topic: events, Follow: true}, func(r *export.Record) error {
			if r.Offset == 9 {
				stop()
			}
			return errors.Join(lines.Write(r), lines.Flush())
		})
		return err
	}
	if err := export.ToFile(name, false, interrupted); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
	whole := func(w io.Writer) error {
		if _, err := os.Lstat(name); err == nil {
			return errors.New("the name is there before the file is whole")
		}
		_, err := io.WriteString(w, "whole")
		return err
	}
	if err := export.ToFile(name, false, whole); err != nil {
		t.Fatal(err)
	}
	again := func(w io.Writer) error { _, err := io.WriteString(w, "again"); return err }
	if err := export.ToFile(name, false, again); !errors.Is(err, export.ErrExists) {
		t.Errorf("over a file it ended with %v", err)
	}
	failing := func(io.Writer) error { return errors.New("the disk is full") }
	if err := export.ToFile(name, true, failing); err == nil {
		t.Error("what fails does not fail")
	}
	if b, _ := os.ReadFile(name); string(b) != "whole" {
		t.Errorf("the file says %q", b)
	}
	if err := export.ToFile(name, true, again); err != nil {
		t.Error(err)
	}
	left, _ := os.ReadDir(dir)
	if b, _ := os.ReadFile(name); string(b) != "again" || len(left) != 1 {
		t.Errorf("with force the file says %q, beside %v", b, left)
	}
}

func TestAnErrorOfTheWriterEndsTheReading(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	for i := range 10 {
		put(t, c, "k", i, time.Now())
	}
	full := errors.New("the disk is full")
	done, err := export.Read(t.Context(), export.Options{Kafka: c.Config, Topic: events}, func(r *export.Record) error {
		if r.Offset == 4 {
			return full
		}
		return nil
	})
	if !errors.Is(err, full) || done.Records != 4 {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := export.Read(t.Context(), export.Options{Kafka: c.Config, Topic: "no.such.topic"}, nil); err == nil || !strings.Contains(err.Error(), "no.such.topic") {
		t.Errorf("a topic that is not there: %v", err)
	}
}
