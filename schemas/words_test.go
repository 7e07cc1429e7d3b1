package schemas_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

var statuses = []schemas.BookingStatus{schemas.Pending, schemas.Confirmed, schemas.Cancelled, schemas.Completed, schemas.NoShow}

func TestABookingIsPaidWhenEnoughHasComeIn(t *testing.T) {
	for _, c := range []struct {
		paid, total schemas.Amount
		want        schemas.PaymentStatus
	}{
		{0, 100, schemas.PaymentPending}, {1, 100, schemas.PartiallyPaid}, {99, 100, schemas.PartiallyPaid}, {100, 100, schemas.Paid}, {101, 100, schemas.Paid},
	} {
		if got := schemas.PaymentOf(c.paid, c.total); got != c.want {
			t.Errorf("%d of %d is %s, want %s", c.paid, c.total, got, c.want)
		}
	}
}

func TestAmountsAreReadExactly(t *testing.T) {
	for in, want := range map[string]schemas.Amount{
		"950": 95000, "950.0": 95000, "950.00": 95000, "9.5e2": 95000, "9.5E+2": 95000, "95000e-2": 95000,
		"0": 0, "-0": 0, "0.01": 1, "0.07": 7, "0.10": 10, "1.10": 110, "-12.34": -1234, "950.000": 95000,
		"92233720368547758.07": math.MaxInt64, "-92233720368547758.08": math.MinInt64,
	} {
		got, err := schemas.ParseAmount(in)
		if err != nil || got != want {
			t.Errorf("ParseAmount(%q) = %d, %v, want %d", in, int64(got), err, int64(want))
		}
	}
}

func TestAmountsThatAreNoneAreRefused(t *testing.T) {
	for _, in := range []string{
		"", "950.005", "1e-3", "1e999999999", "1e-999999999", "1/3", "100/1", "0x10", "0b1", "0o7", "1_000", `"950"`, "null", "true",
		"NaN", "Inf", "-Inf", "1e", "--1", "1,5", " 1", "1 ", "1p2", "92233720368547758.08", "-92233720368547758.09", "1e99", "1e999",
		strings.Repeat("9", 33),
	} {
		if got, err := schemas.ParseAmount(in); err == nil {
			t.Errorf("ParseAmount(%q) = %s, want an error", in, got)
		}
	}
}

func TestAmountsAreWrittenWithTwoPlaces(t *testing.T) {
	for a, want := range map[schemas.Amount]string{
		95000: "950.00", 0: "0.00", 1: "0.01", 10: "0.10", -1: "-0.01", -1234: "-12.34",
		math.MaxInt64: "92233720368547758.07", math.MinInt64: "-92233720368547758.08",
	} {
		if got := a.String(); got != want {
			t.Errorf("Amount(%d) is written %s, want %s", int64(a), got, want)
		}
	}
}

func TestDatesAreRealDays(t *testing.T) {
	for _, s := range []string{"2026-02-28", "2028-02-29", "2000-01-01", "9999-12-31"} {
		if d, err := schemas.ParseDate(s); err != nil || string(d) != s {
			t.Errorf("ParseDate(%q) = %q, %v", s, d, err)
		}
	}
	for _, s := range []string{"", "2026-02-29", "2026-13-01", "2026-1-2", "1999-12-31", "0000-01-01", "10000-01-01", "2026-01-02T00:00:00Z", " 2026-01-02"} {
		if d, err := schemas.ParseDate(s); err == nil {
			t.Errorf("ParseDate(%q) = %q, want an error", s, d)
		}
	}
}

func TestNightsAreCalendarDays(t *testing.T) {
	in := schemas.Date("2026-12-30")
	if got := in.AddDays(3); got != "2027-01-02" {
		t.Errorf("three days after %s is %s", in, got)
	}
	if got := in.NightsUntil("2027-01-02"); got != 3 {
		t.Errorf("%d nights, want 3", got)
	}
	late := time.Date(2026, 3, 1, 23, 30, 0, 0, time.FixedZone("", 4*3600))
	if got := schemas.DateOf(late); got != "2026-03-01" {
		t.Errorf("the day of %s is %s in its own zone", late, got)
	}
}

func TestLaddersAreReadOrRefused(t *testing.T) {
	got, err := schemas.ParseLadder("100ms, 1s,1s,24h")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(schemas.Ladder{100 * time.Millisecond, time.Second, time.Second, 24 * time.Hour}, got); diff != "" {
		t.Error(diff)
	}
	for _, s := range []string{"", ",", "5", "5s,", "99ms", "25h", "1500us", "10s,5s", "-5s", strings.Repeat("1s,", 50) + "1s"} {
		if l, err := schemas.ParseLadder(s); err == nil {
			t.Errorf("ParseLadder(%q) = %v, want an error", s, l)
		}
	}
}

func TestTheDefaultLadderTriesForADay(t *testing.T) {
	l := schemas.DefaultLadder()
	if got, want := l.Total(), 27*time.Hour+35*time.Minute+35*time.Second; got != want {
		t.Errorf("total %s, want %s", got, want)
	}
	if got := len(l.Tiers()); got != 7 {
		t.Errorf("%d tiers, want 7: ten hours stand twice", got)
	}
	if d, ok := l.Next(1); d != 5*time.Second || !ok {
		t.Errorf("after one attempt: %s, %t", d, ok)
	}
	if d, ok := l.Next(8); d != 10*time.Hour || !ok {
		t.Errorf("after eight attempts: %s, %t", d, ok)
	}
	for _, made := range []int{-1, 0, 9} {
		if d, ok := l.Next(made); ok {
			t.Errorf("after %d attempts: %s, want none", made, d)
		}
	}
}

func TestATierCoversAWaitOrIsTheLongest(t *testing.T) {
	l := schemas.DefaultLadder()
	for wait, want := range map[time.Duration]time.Duration{
		-1: 5 * time.Second, 0: 5 * time.Second, 5 * time.Second: 5 * time.Second, 5*time.Second + 1: 30 * time.Second,
		time.Hour: 2 * time.Hour, 24 * time.Hour: 10 * time.Hour,
	} {
		if got, ok := l.Covering(wait); !ok || got != want {
			t.Errorf("Covering(%s) = %s, %t, want %s", wait, got, ok, want)
		}
	}
	if d, ok := (schemas.Ladder{}).Covering(time.Second); ok {
		t.Errorf("an empty ladder covers a second with %s", d)
	}
	for n, want := range map[int]int{-1: 0, 0: 0, 3: 3, 8: 8, 99: 8} {
		if got := len(l.Cut(n)); got != want {
			t.Errorf("Cut(%d) has %d delays, want %d", n, got, want)
		}
	}
}

func TestTierTopicsNameTheirDelay(t *testing.T) {
	for d, want := range map[time.Duration]string{
		100 * time.Millisecond: "100ms", time.Second: "1s", 5 * time.Second: "5s", 30 * time.Second: "30s", 90 * time.Second: "1m30s",
		time.Minute: "1m", 5 * time.Minute: "5m", 10 * time.Minute: "10m", 30 * time.Minute: "30m", time.Hour: "1h", 90 * time.Minute: "1h30m",
		2 * time.Hour: "2h", 10 * time.Hour: "10h", 20 * time.Hour: "20h", 24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s",
		10*time.Hour + 10*time.Minute: "10h10m", 1500 * time.Millisecond: "1.5s",
	} {
		topic := schemas.TierTopic(d)
		if topic != "webhook.retry."+want {
			t.Errorf("TierTopic(%s) = %s, want webhook.retry.%s", d, topic, want)
		}
		if back, ok := schemas.TierOf(topic); !ok || back != d {
			t.Errorf("TierOf(%s) = %s, %t, want %s", topic, back, ok, d)
		}
	}
	for _, s := range []string{"", "5s", "webhook.retry.", "webhook.retry.0s", "webhook.retry.-5s", "webhook.retry.x", "webhook.deliveries"} {
		if d, ok := schemas.TierOf(s); ok {
			t.Errorf("TierOf(%q) = %s, want none", s, d)
		}
	}
}

func TestEveryTopicSaysHowLongItKeepsRecords(t *testing.T) {
	o := schemas.TopicOptions{Partitions: 12, ReplayWindow: 30 * 24 * time.Hour, Ladder: schemas.DefaultLadder()}
	seen := map[string]bool{}
	for _, topic := range schemas.Topics(o) {
		if seen[topic.Name] {
			t.Errorf("%s is listed twice", topic.Name)
		}
		seen[topic.Name] = true
		if topic.Config["retention.ms"] == "" || topic.Config["cleanup.policy"] == "" {
			t.Errorf("%s: %v", topic.Name, topic.Config)
		}
		if compacted := topic.Config["cleanup.policy"] == "compact"; compacted && topic.Config["retention.ms"] != "-1" {
			t.Errorf("%s is compacted and still forgets: %v", topic.Name, topic.Config)
		}
		want := int32(12)
		if topic.Name == string(schemas.Subscriptions) || topic.Name == string(schemas.OutboxProgress) {
			want = 1
		}
		if topic.Partitions != want {
			t.Errorf("%s has %d partitions, want %d", topic.Name, topic.Partitions, want)
		}
	}
	if len(seen) != 9+7 {
		t.Errorf("%d topics, want 16", len(seen))
	}
}

func TestCursorsComeBack(t *testing.T) {
	f := schemas.Feed{TopicID: "0123456789abcdef0123456789abcdef", Partitions: 12}
	for _, next := range []int64{0, 1, math.MaxInt64} {
		c := f.At(f.Partition("host_1"), next)
		got, err := schemas.ParseCursor(c.String())
		if err != nil || got != c {
			t.Errorf("%s came back as %+v, %v", c, got, err)
		}
	}
	other := schemas.Feed{TopicID: f.TopicID, Partitions: 13}
	if f.Epoch() == other.Epoch() || len(f.Epoch()) != 10 {
		t.Errorf("epochs %s and %s of two feeds", f.Epoch(), other.Epoch())
	}
}

func TestCursorsThatWeDidNotGiveAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "-", "--", "0123456789-1", "0123456789-1-2-3", "012345678-1-2", "0123456789a-1-2", "012345678g-1-2", "012345678A-1-2",
		"0123456789--1-2", "0123456789-1--2", "0123456789-01-2", "0123456789-1-02", "0123456789-+1-2", "0123456789-2147483648-2",
		"0123456789-1-9223372036854775808", "0123456789-1-2 ", "0123456789-1-2\n", "0123456789-1-2x", "0123456789-1-" + strings.Repeat("0", 64),
	} {
		if c, err := schemas.ParseCursor(s); err == nil {
			t.Errorf("ParseCursor(%q) = %+v, want an error", s, c)
		}
	}
}

func TestPartitionOfIsTheClientsDefaultPartitioner(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2)) // the same keys in every run
	p := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	for range 5000 {
		key := make([]byte, 1+rng.IntN(64)) // an empty key is sticky, not hashed
		for i := range key {
			key[i] = byte(rng.Uint32())
		}
		n := 1 + rng.Int32N(64)
		want := p.Partition(&kgo.Record{Key: key}, int(n))
		if got := schemas.PartitionOf(string(key), n); int(got) != want {
			t.Fatalf("PartitionOf(%q, %d) = %d, want %d", key, n, got, want)
		}
	}
}

func TestBookingStatusMoves(t *testing.T) {
	moves := map[schemas.BookingStatus][]schemas.BookingStatus{
		schemas.Pending:   {schemas.Confirmed, schemas.Cancelled},
		schemas.Confirmed: {schemas.Cancelled, schemas.Completed, schemas.NoShow},
	}
	all := append(slices.Clone(statuses), "", "unknown")
	for _, from := range all {
		for _, to := range all {
			want := slices.Contains(moves[from], to)
			if got := from.CanBecome(to); got != want {
				t.Errorf("%q can become %q: %t, want %t", from, to, got, want)
			}
		}
		if got, want := from.Holds(), from == schemas.Pending || from == schemas.Confirmed; got != want {
			t.Errorf("%q holds its dates: %t, want %t", from, got, want)
		}
	}
}

func TestEveryMoveHasAnEvent(t *testing.T) {
	for s, want := range map[schemas.BookingStatus]schemas.EventType{
		schemas.Pending: "", schemas.Confirmed: schemas.BookingConfirmed, schemas.Cancelled: schemas.BookingCancelled,
		schemas.Completed: schemas.BookingCompleted, schemas.NoShow: schemas.BookingNoShow,
	} {
		if got := schemas.StatusEvent(s); got != want {
			t.Errorf("StatusEvent(%s) = %q, want %q", s, got, want)
		}
	}
}

func TestASecretPrintsNothing(t *testing.T) {
	const hidden = "whsec_c2VjcmV0"
	s := schemas.Secret(hidden)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%10s"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", struct{ Key schemas.Secret }{s})
		fmt.Fprintf(&out, verb+"\n", []schemas.Secret{s})
	}
	fmt.Fprintln(&out, fmt.Errorf("signing with %v: %w", s, fmt.Errorf("key %s", s)))
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("signing", slog.Any("key", s), slog.Any("any", s), slog.Group("g", slog.Any("key", &s)))
	}
	for _, leak := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden), fmt.Sprintf("% x", hidden)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q got out:\n%s", leak, out.String())
		}
	}
	if got := s.Reveal(); got != hidden {
		t.Errorf("Reveal() = %q, want %q", got, hidden)
	}
}

func TestIDsAreUniqueAndHaveNoDot(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		id := string(schemas.NewEventID())
		if seen[id] || strings.Contains(id, ".") || !strings.HasPrefix(id, "evt_") || len(id) != len("evt_")+32 {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
}

func TestDerivedIDsNeverChange(t *testing.T) {
	for name, pair := range map[string][2]string{
		"delivery":     {string(schemas.DeliveryFor("evt_1", "sub_1")), "dlv_a661ef7edbc14e088d227381698738cc"},
		"notification": {string(schemas.NotificationFor("evt_1")), "ntf_a4dd7d6b6e0aae86816f2725d88e2385"},
		"epoch":        {schemas.Feed{TopicID: "ab", Partitions: 12}.Epoch(), "2cfffa3dd3"},
	} {
		if got, want := pair[0], pair[1]; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if schemas.DeliveryFor("ab", "c") == schemas.DeliveryFor("a", "bc") {
		t.Error("two pairs have one delivery id")
	}
}

func TestSubscriptionsMatchTheirOwnAgentsBookings(t *testing.T) {
	s := schemas.Subscription{AgentID: "a", Events: []schemas.EventType{schemas.BookingCreated}}
	platform := s
	platform.Platform = true
	for _, c := range []struct {
		s     schemas.Subscription
		agent schemas.AgentID
		event schemas.EventType
		want  bool
	}{
		{s, "a", schemas.BookingCreated, true},
		{s, "a", schemas.BookingConfirmed, false},
		{s, "b", schemas.BookingCreated, false},
		{platform, "b", schemas.BookingCreated, true},
		{platform, "b", schemas.BookingConfirmed, false},
		{schemas.Subscription{AgentID: "a"}, "a", schemas.BookingCreated, false},
	} {
		if got := c.s.Matches(c.agent, c.event); got != c.want {
			t.Errorf("platform %t, %s by %s: %t, want %t", c.s.Platform, c.event, c.agent, got, c.want)
		}
	}
}

func TestErrorsHaveTheKindOfTheFirstInTheChain(t *testing.T) {
	err := fmt.Errorf("creating a booking: %w", schemas.Refuse(schemas.Rule, "guests", "guests", "range", "at most %d guests", 2))
	if got := schemas.KindOf(err); got != schemas.Rule {
		t.Errorf("kind %d, want Rule", got)
	}
	if got := schemas.KindOf(fmt.Errorf("no kind")); got != schemas.Internal {
		t.Errorf("kind %d, want Internal", got)
	}
	if got := schemas.KindOf(nil); got != schemas.Internal {
		t.Errorf("kind %d of nil, want Internal", got)
	}
}

func TestHealthCountsOnlyWhatWasSentForEvents(t *testing.T) {
	for _, c := range []struct {
		trigger schemas.Trigger
		outcome schemas.Outcome
		want    bool
	}{
		{schemas.TriggerEvent, schemas.Delivered, true},
		{schemas.TriggerRetry, schemas.Dead, true},
		{schemas.TriggerEvent, schemas.Withheld, false},
		{schemas.TriggerTest, schemas.Retry, false},
		{schemas.TriggerOperational, schemas.Dead, false},
	} {
		a := schemas.Attempt{Trigger: c.trigger, Outcome: c.outcome}
		if got := a.CountsForHealth(); got != c.want {
			t.Errorf("%s %s counts: %t, want %t", c.trigger, c.outcome, got, c.want)
		}
	}
}
