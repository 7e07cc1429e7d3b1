package docs_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	clickhouse "github.com/AfterShip/clickhouse-sql-parser/parser"
	"github.com/parquet-go/parquet-go"

	"github.com/krib-ai/krib/internal/export"
	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

const analytics = "ANALYTICS.md"

// Nothing stands in the document that no test has looked at.
func TestEveryBlockForAnalystsIsTested(t *testing.T) {
	t.Parallel()
	tested := []string{
		"run tail.sh", "run kcat.sh", "run export.sh", "run ask.py", "run funnel.sql", "run confirm.sql", "run webhooks.sql", "run ask.sh",
		"columns bookings.sql", "columns webhooks-duckdb.sql", "properties connect.json", "clickhouse clickhouse.sql", "flink flink.sql", "acls acls.sh",
	}
	for _, b := range blocks(t, analytics) {
		if !slices.Contains(tested, b.use+" "+b.name) {
			t.Errorf("no test is for a block of %s with the use %q: %.80s", b.language, b.use+" "+b.name, b.text)
		}
	}
}

// A history is what the topics say of six bookings and their webhooks.
func history(t *testing.T) *testenv.Cluster {
	t.Helper()
	c := testenv.Topics(t, nil)
	at := time.Now().UTC().Add(-3 * time.Hour).Truncate(time.Second)
	write := func(id schemas.BookingID, version int64, kind schemas.EventType, after time.Duration, change func(*schemas.Booking)) {
		b := schemas.Booking{
			ID: id, Version: version, AgentID: "agent_1", HostID: "host_1", Status: schemas.Pending, CheckIn: "2030-04-10", CheckOut: "2030-04-12", Nights: 2, Guests: 2,
			Guest: schemas.Guest{FirstName: "Amira", LastName: "Haddad", Email: "amira@example.com"}, TotalAmount: 95000, Currency: "AED",
			PaymentMethod: "stripe", PaymentStatus: schemas.PaymentPending, CreatedAt: at, UpdatedAt: at.Add(after),
		}
		change(&b)
		e := schemas.Event{
			ID: schemas.EventID(fmt.Sprintf("evt_%s_%d", id, version)), Type: kind, Version: version, OccurredAt: at.Add(after),
			Actor: schemas.Actor{Kind: schemas.ActorHost, ID: "host_1"}, Booking: b, Changed: []string{},
		}
		switch id {
		case "bkg_4":
			e.Actor = schemas.Actor{Kind: schemas.ActorAgent, ID: "agent_1"}
		case "bkg_5":
			e.Actor = schemas.Actor{Kind: schemas.ActorAgent, ID: "agent_9", Platform: true}
		case "bkg_6":
			e.Actor, e.AutoApproved = schemas.Actor{Kind: schemas.ActorAgent, ID: "agent_1"}, true
		}
		if b.CancellationReason == "expired" {
			e.Actor = schemas.Actor{Kind: schemas.ActorSystem, ID: "expiry"}
		}
		c.Produce(t, string(schemas.BookingEvents), string(id), e.Meta(), &e)
	}
	confirmed := func(after time.Duration) func(*schemas.Booking) {
		return func(b *schemas.Booking) { b.Status, b.ConfirmedAt = schemas.Confirmed, new(at.Add(after)) }
	}
	for _, id := range []schemas.BookingID{"bkg_1", "bkg_2", "bkg_3"} {
		write(id, 1, schemas.BookingCreated, 0, func(*schemas.Booking) {})
	}
	write("bkg_1", 2, schemas.BookingConfirmed, 10*time.Minute, confirmed(10*time.Minute))
	write("bkg_2", 2, schemas.BookingConfirmed, 30*time.Minute, confirmed(30*time.Minute))
	write("bkg_2", 3, schemas.PaymentReceived, 40*time.Minute, func(b *schemas.Booking) {
		confirmed(30 * time.Minute)(b)
		b.PaymentStatus = schemas.Paid
	})
	// No host answered these requests: a key that may confirm did, or the host's settings.
	for _, id := range []schemas.BookingID{"bkg_4", "bkg_5", "bkg_6"} {
		write(id, 1, schemas.BookingCreated, 0, func(*schemas.Booking) {})
		write(id, 2, schemas.BookingConfirmed, time.Second, confirmed(time.Second))
	}
	write("bkg_3", 2, schemas.BookingCancelled, time.Hour, func(b *schemas.Booking) { b.Status, b.CancellationReason = schemas.Cancelled, "expired" })
	attempts(t, c, at)
	return c
}

func attempts(t *testing.T, c *testenv.Cluster, at time.Time) {
	t.Helper()
	for _, a := range []schemas.Attempt{
		{AgentID: "agent_1", DeliveryID: "dlv_1", Number: 1, Outcome: schemas.Retry, ResponseBody: "sorry, Amira"},
		{AgentID: "agent_1", DeliveryID: "dlv_1", Number: 2, Outcome: schemas.Delivered, Final: true},
		{AgentID: "agent_1", DeliveryID: "dlv_1", Number: 2, Outcome: schemas.Delivered, Final: true}, // as after a crash
		{AgentID: "agent_1", DeliveryID: "dlv_2", Number: 1, Outcome: schemas.Dead, Final: true},
		{AgentID: "agent_1", DeliveryID: "dlv_3", Number: 1, Outcome: schemas.Withheld, Final: true},
		{AgentID: "agent_2", DeliveryID: "dlv_4", Number: 1, Outcome: schemas.Delivered, Final: true},
		{AgentID: "agent_2", DeliveryID: "dlv_5", Number: 1, Outcome: schemas.Retry}, // not ended
		{AgentID: "agent_2", DeliveryID: "dlv_7", Number: 1, Outcome: schemas.Retry, SubscriptionID: "sub_failing"},
		{AgentID: "agent_2", DeliveryID: "dlv_7", Number: 2, Outcome: schemas.Retry, SubscriptionID: "sub_failing"},
		{AgentID: "agent_2", DeliveryID: "dlv_6", Number: 1, Outcome: schemas.Dead, Final: true, Trigger: schemas.TriggerTest},
	} {
		if a.SubscriptionID == "" {
			a.SubscriptionID = schemas.SubscriptionID("sub_" + a.AgentID)
		}
		a.EventID, a.EventType, a.StartedAt, a.DeliveryCreatedAt = "evt_1", schemas.BookingCreated, at, at
		if a.Trigger == "" {
			a.Trigger = schemas.TriggerEvent
		}
		r, err := schemas.Encode(&a)
		if err != nil {
			t.Fatal(err)
		}
		record := kafka.Record(string(schemas.Attempts), string(a.SubscriptionID), a.Meta(), r)
		record.Timestamp = at
		c.ProduceRecord(t, record)
	}
}

// A desk is an analyst's: a folder, krib on the PATH, and brokers.
type desk struct{ dir, bin, brokers string }

func newDesk(t *testing.T, brokers []string) desk {
	t.Helper()
	return desk{t.TempDir(), build(t), strings.Join(brokers, ",")}
}

// run runs a block as it stands, and returns what it printed.
func (d desk) run(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", named(t, analytics, name).text)
	cmd.Dir = d.dir
	cmd.Env = withPath(d.bin, "KRIB_KAFKA_BROKERS="+d.brokers, "PYTHONDONTWRITEBYTECODE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, out, &stderr)
	}
	return string(out)
}

func (d desk) file(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the document says is done in its order, by the programs that it names.
func TestTheDocumentForAnalystsIsRun(t *testing.T) {
	t.Parallel()
	c := history(t)
	d := newDesk(t, c.Config.Brokers)

	if out := d.run(t, "tail.sh"); strings.Count(out, "\n") != 13+13+2 || strings.Count(out, "amira@example.com") != 13+2 {
		t.Errorf("krib tail says\n%s", out)
	}
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Log("NOT RUN: what the document says for kcat, which is not installed: apt-get install kcat")
	} else if out := d.run(t, "kcat.sh"); strings.Count(out, `"type":"booking.created"`) != 6 || strings.Count(out, `"topic":"webhook.attempts"`) != 10 || !strings.Contains(out, "3 partitions") {
		t.Errorf("kcat says\n%s", out)
	}
	d.run(t, "export.sh")
	if b := d.file(t, "events.ndjson"); bytes.Count(b, []byte("\n")) != 13 || bytes.Contains(b, []byte("Amira")) {
		t.Errorf("of events the export says\n%s", b)
	}
	if b := d.file(t, "attempts.ndjson"); bytes.Count(b, []byte("\n")) != 10 || bytes.Contains(b, []byte("Amira")) {
		t.Errorf("of attempts the export says\n%s", b)
	}
	for _, name := range []string{"ask.py", "funnel.sql", "confirm.sql", "webhooks.sql"} {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(named(t, analytics, name).text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := "bookings\tconfirmed\tpaid\tcompleted\tcancelled\texpired\n6\t5\t1\t0\t1\t1\n" +
		"bookings\tmedian\tlongest\n2\t1200.0\t1800.0\n" +
		"agent\tendpoint\tdeliveries\tdelivered\tfailing\tpercent\tattempts\n" +
		"agent_2\tsub_failing\t1\t0\t1\t0.0\t2.0\n" + // it has only ever failed
		"agent_1\tsub_agent_1\t2\t1\t0\t50.0\t1.5\nagent_2\tsub_agent_2\t2\t1\t1\t50.0\t1.0\n"
	if out := d.run(t, "ask.sh"); out != want {
		t.Errorf("the answers are\n%s, not\n%s", out, want)
	}
}

var (
	sqlText = regexp.MustCompile(`'[^']*'`)
	sqlWord = regexp.MustCompile(`[a-z_]+`)
)

// What is asked of Parquet files names columns that they have.
func TestTheColumnsOfTheDocumentAreInTheFiles(t *testing.T) {
	t.Parallel()
	words := strings.Fields("select from where group order by all as count sum median epoch over partition desc row_number n bookings confirmed total " +
		"seconds_to_confirm filter avg posts deliveries delivered max and not in bool_or ended failing")
	for name, topic := range map[string]string{"bookings.sql": string(schemas.BookingEvents), "webhooks-duckdb.sql": string(schemas.Attempts)} {
		columns, n := columnsOf(t, topic), 0
		for _, w := range sqlWord.FindAllString(sqlText.ReplaceAllString(named(t, analytics, name).text, ""), -1) {
			switch {
			case columns[w]:
				n++
			case !slices.Contains(words, w):
				t.Errorf("%s: there is no column %s", name, w)
			}
		}
		if n < 5 {
			t.Errorf("%s has %d columns: the search for them is wrong", name, n)
		}
	}
}

func columnsOf(t *testing.T, topic string) map[string]bool {
	t.Helper()
	var file bytes.Buffer
	if err := export.NewParquet(io.Writer(&file), topic).Close(); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, c := range f.Schema().Columns() {
		out[strings.Join(c, ".")] = true
	}
	return out
}

// connectProperties are those that Kafka Connect and Confluent's S3 sink document.
var connectProperties = strings.Fields(`connector.class tasks.max topics consumer.override.isolation.level consumer.override.auto.offset.reset
	key.converter value.converter value.converter.schemas.enable errors.tolerance storage.class format.class s3.bucket.name s3.region flush.size rotate.interval.ms`)

func TestTheConnectorIsJSONWithPropertiesThatAreKnown(t *testing.T) {
	t.Parallel()
	var c struct {
		Name   string
		Config map[string]string
	}
	d := json.NewDecoder(strings.NewReader(named(t, analytics, "connect.json").text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil || c.Name == "" || len(c.Config) != len(connectProperties) {
		t.Fatalf("%v in %+v", err, c)
	}
	for name := range c.Config {
		if !slices.Contains(connectProperties, name) {
			t.Errorf("%s is not known", name)
		}
	}
	if c.Config["consumer.override.isolation.level"] != "read_committed" {
		t.Error("it reads what was taken back")
	}
	for topic := range strings.SplitSeq(c.Config["topics"], ",") {
		if !slices.Contains(topicNames(), topic) {
			t.Errorf("there is no topic %s", topic)
		}
	}
}

func topicNames() (out []string) {
	for _, topic := range schemas.Topics(schemas.TopicOptions{Partitions: 1, ReplayWindow: time.Hour}) {
		out = append(out, topic.Name)
	}
	return out
}

// described says whether the schema of booking events has a member.
func described(t *testing.T, path ...string) bool {
	t.Helper()
	return slices.ContainsFunc(members(t, schemas.SchemaEvent), func(m member) bool { return m.path == strings.Join(path, ".") })
}

func TestTheStatementsOfStreamsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	clickhouse, flink := named(t, analytics, "clickhouse.sql").text, named(t, analytics, "flink.sql").text
	for name, text := range map[string]string{"ClickHouse": clickhouse, "Flink": flink} {
		bare := sqlText.ReplaceAllString(text, "")
		if strings.Count(bare, "(") != strings.Count(bare, ")") || strings.Contains(bare, "'") {
			t.Errorf("%s: brackets or quotes are not closed", name)
		}
	}
	known := map[string]*regexp.Regexp{
		clickhouse: regexp.MustCompile(`^kafka_(broker_list|topic_list|group_name|format|num_consumers)$`),
		flink:      regexp.MustCompile(`^(connector|topic|properties\.(bootstrap\.servers|group\.id|isolation\.level)|scan\.startup\.mode|format|json\.timestamp-format\.standard)$`),
	}
	for text, options := range known {
		found := regexp.MustCompile(`(?m)(kafka_\w+|'[a-z.-]+') = `).FindAllStringSubmatch(text, -1)
		if len(found) < 5 {
			t.Errorf("%d options: the search for them is wrong", len(found))
		}
		for _, o := range found {
			if name := strings.Trim(o[1], "'"); name != "type" && !options.MatchString(name) {
				t.Errorf("the option %s is not known", name)
			}
		}
	}
	paths := regexp.MustCompile(`JSONExtract\w+\(value, '([^)]*)'\)`).FindAllStringSubmatch(clickhouse, -1)
	for _, p := range paths {
		if !described(t, strings.Split(p[1], "', '")...) {
			t.Errorf("ClickHouse: events have no %s", p[1])
		}
	}
	columns := regexp.MustCompile("`(\\w+)` (string|bigint|timestamp_ltz|row|decimal)").FindAllStringSubmatch(flink, -1)
	inside := false
	for _, c := range columns {
		path := []string{c[1]}
		if inside {
			path = []string{"booking", c[1]}
		}
		if !described(t, path...) {
			t.Errorf("Flink: events have no %v", path)
		}
		inside = inside || c[2] == "row"
	}
	if len(paths) < 10 || len(columns) < 10 {
		t.Errorf("%d paths and %d columns: the search for them is wrong", len(paths), len(columns))
	}
}

// The statements for ClickHouse are ClickHouse's SQL, and a slip of the pen in them
// would not be.
func TestTheStatementsForClickHouseParse(t *testing.T) {
	t.Parallel()
	text := named(t, analytics, "clickhouse.sql").text
	got, err := clickhouse.NewParser(text).ParseStmts()
	if err != nil {
		t.Fatal(err)
	}
	if want := 1 + strings.Count(text, ";\n\n"); len(got) != want {
		t.Errorf("%d statements, want %d", len(got), want)
	}
	for right, wrong := range map[string]string{
		"engine = Kafka":                      "engine Kafka =",
		"settings kafka_broker_list":          "setting kafka_broker_list",
		"kafka_format = 'JSONAsString', ":     "kafka_format = 'JSONAsString' ",
		"(value String)":                      "(value String",
		"type LowCardinality(String), ":       "type LowCardinality(String) ",
		"order by (booking_id, version);":     "order (booking_id, version);",
		"create materialized view":            "create materialised view",
		" to booking_events as":               " booking_events as",
		"JSONExtractString(value, 'id')":      "JSONExtractString(value, 'id'",
		"from booking_events_queue":           "form booking_events_queue",
		"'occurred_at'), 6, 'UTC')":           "'occurred_at'), 6, 'UTC)",
		"total_amount Decimal(18, 2)":         "total_amount Decimal(18 2)",
		"DateTime64(6, 'UTC')":                "DateTime64(6, 'UTC'",
		"create table booking_events_queue (": "create booking_events_queue (",
	} {
		broken := strings.Replace(text, right, wrong, 1)
		if broken == text {
			t.Errorf("%q is not in the statements", right)
		} else if _, err := clickhouse.NewParser(broken).ParseStmts(); err == nil {
			t.Errorf("with %q in the place of %q they parse all the same", wrong, right)
		}
	}
}

// A member is a place in a schema.
type member struct {
	path     string
	personal bool
}

// members are all of a schema, behind its references.
func members(t *testing.T, name string) (out []member) {
	t.Helper()
	b, err := schemas.Schema(name)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(b, &root); err != nil {
		t.Fatal(err)
	}
	var walk func(s map[string]any, path string)
	walk = func(s map[string]any, path string) {
		personal := s["x-pii"] == true
		if ref, ok := s["$ref"].(string); ok {
			s = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
			personal = personal || s["x-pii"] == true
		}
		if path != "" {
			out = append(out, member{path, personal})
		}
		if items, ok := s["items"].(map[string]any); ok {
			walk(items, path+"[]")
		}
		inside, _ := s["properties"].(map[string]any)
		for m, of := range inside {
			walk(of.(map[string]any), strings.TrimPrefix(path+"."+m, "."))
		}
	}
	walk(root, "")
	slices.SortFunc(out, func(a, b member) int { return strings.Compare(a.path, b.path) })
	return out
}

func TestTheDocumentListsAllPersonalData(t *testing.T) {
	t.Parallel()
	want := "| schema | personal |\n|---|---|\n"
	for _, name := range schemas.SchemaNames() {
		var personal []string
		for _, m := range members(t, name) {
			if m.personal {
				personal = append(personal, "`"+m.path+"`")
			}
		}
		if len(personal) > 0 {
			want += fmt.Sprintf("| `%s` | %s |\n", name, strings.Join(personal, ", "))
		}
	}
	if !strings.Contains(read(t, analytics), "\n"+want+"\n") {
		t.Errorf("the list of personal data should be\n%s", want)
	}
}

func TestTheDocumentSaysHowLongTopicsAreKept(t *testing.T) {
	t.Parallel()
	text := read(t, analytics)
	const day = 24 * time.Hour
	for _, topic := range schemas.Topics(schemas.TopicOptions{Partitions: 1, ReplayWindow: 30 * day}) {
		kept := "for ever"
		if topic.Name == string(schemas.BookingEvents) {
			kept = "every event for " + days(topic.Config["min.compaction.lag.ms"])
		} else if topic.Config["cleanup.policy"] == "delete" {
			kept = days(topic.Config["retention.ms"])
		}
		said := false
		for line := range strings.Lines(text) {
			said = said || strings.HasPrefix(line, "|") && strings.Contains(line, "`"+topic.Name+"`") && strings.Contains(line, kept)
		}
		if !said {
			t.Errorf("no line of the table says that %s is kept %s", topic.Name, kept)
		}
	}
}

func days(ms string) string {
	d, _ := time.ParseDuration(ms + "ms")
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}
