package api_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/producers/outbox"
	"github.com/krib-ai/krib/schemas"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "the seed of the model-based test; 0 takes another each time")
	modelSteps = flag.Int("model.steps", 10_000, "how many commands the model-based test sends")
)

// A stayModel is what a booking must be, in the plainest terms.
type stayModel struct {
	id      string
	agent   int
	in, out int // days from now
	guests  int
	status  schemas.BookingStatus
	version int64
	ranOut  bool
	reason  string
	history []string // of event types
}

func (b *stayModel) holds() bool {
	return b.status == schemas.Confirmed || b.status == schemas.Pending && !b.ranOut
}

// A model is the bookings of one home and those who change them.
type model struct {
	t        *testing.T
	w        *world
	rand     *rand.Rand
	agents   []client
	hosts    []client // the first one owns the home
	bookings []*stayModel
	log      []string

	today int // the producer's day, from day(0)

	topic  *kgo.Client // reads booking.events
	events map[string][]schemas.Event
}

// TestTheAPIAgreesWithAPlainModel sends random commands, legal and not, and holds
// every answer to the model; and now and then the whole table, and the topic, which
// the relay writes meanwhile: every booking's events and its latest record.
func TestTheAPIAgreesWithAPlainModel(t *testing.T) {
	t.Parallel()
	seed := *modelSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	w := newWorld(t, func(o *api.Options) { o.Logger = slog.New(slog.DiscardHandler) }) // the model has a log of its own
	m := &model{t: t, w: w, rand: rand.New(rand.NewPCG(seed, seed)), hosts: []client{w.host(hostOne), w.host(hostTwo)}, events: map[string][]schemas.Event{}}
	m.leave()
	m.publish()
	for range 3 {
		m.agents = append(m.agents, w.key("bookings:read", "bookings:write", "bookings:confirm"))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("-model.seed=%d; the last steps:\n%s", seed, strings.Join(m.log[max(0, len(m.log)-15):], "\n"))
		}
	})
	steps := []struct {
		weight int
		run    func()
	}{{6, m.create}, {6, m.put}, {6, m.answer}, {2, m.read}, {1, m.runOut}, {1, m.list}, {1, m.ask}}
	var turns []func()
	for _, s := range steps {
		for range s.weight {
			turns = append(turns, s.run)
		}
	}
	for n := range *modelSteps {
		turns[m.rand.IntN(len(turns))]()
		if n%1000 == 999 || t.Failed() {
			m.compare()
		}
		if t.Failed() {
			return
		}
	}
	m.compare()
}

// publish runs the relay, and opens the topic as a reader who knows nothing of us.
func (m *model) publish() {
	m.t.Helper()
	cluster := testenv.Topics(m.t, nil)
	relay := outbox.New(outbox.Options{
		Kafka: cluster.Config, DatabaseURL: m.w.url, Signal: store.NewSignal(store.ChannelOutbox), Logger: testenv.Logger(m.t),
	})
	testenv.Run(m.t, relay.Run)
	var err error
	m.topic, err = kgo.NewClient(kgo.SeedBrokers(cluster.Config.Brokers...), kgo.ConsumeTopics(string(schemas.BookingEvents)),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(m.topic.Close)
}

// readTopic takes what the topic has to say until it is as much as the model knows of.
func (m *model) readTopic() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	want, have := 0, 0
	for _, b := range m.bookings {
		want += len(b.history)
		have += len(m.events[b.id])
	}
	for have < want {
		fetches := m.topic.PollFetches(ctx)
		if ctx.Err() != nil {
			m.t.Fatalf("the topic has %d events, want %d", have, want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			e, err := schemas.Decode[schemas.Event](r.Value)
			if err != nil || string(e.Booking.ID) != string(r.Key) {
				m.t.Errorf("a record of %s is %s: %v", r.Key, r.Value, err)
			}
			m.events[string(r.Key)] = append(m.events[string(r.Key)], e)
			have++
		})
	}
}

func (m *model) logf(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

// some is a booking, mostly a late one, since those are alive.
func (m *model) some() *stayModel {
	if n := len(m.bookings); n > 0 {
		return m.bookings[n-1-min(m.rand.IntN(n), m.rand.IntN(n), m.rand.IntN(n))]
	}
	return &stayModel{id: "bkg_none", agent: -1}
}

func (m *model) overlapping(in, out int) (held []*stayModel) {
	for _, b := range m.bookings {
		if b.in < out && b.out > in && (b.status == schemas.Pending || b.status == schemas.Confirmed) {
			held = append(held, b)
		}
	}
	return held
}

func (b *stayModel) move(to schemas.BookingStatus, reason string) {
	b.status, b.version = to, b.version+1
	if b.history = append(b.history, string(schemas.StatusEvent(to))); to == schemas.Cancelled {
		b.reason = reason
	}
}

func price(nights int) schemas.Amount { // 425 a night, 3 %, 15 a night, once 44.50
	return schemas.Amount(nights)*(42500+1275+1500) + 4450
}

func (m *model) create() {
	agent, in, guests := m.rand.IntN(len(m.agents)), 5+m.rand.IntN(60), 1+m.rand.IntN(5)
	out := in + 1 + m.rand.IntN(4)
	if b := m.some(); m.rand.IntN(5) == 0 && b.agent >= 0 { // the same again, or nearly
		agent, in, out, guests = b.agent, b.in, b.out, b.guests
	}
	total := price(out - in)
	if m.rand.IntN(10) == 0 {
		total++
	}
	r := m.agents[agent].do("POST", bookings, with(stay(in), "check_out", day(out), "guests", guests, "total_amount", json.Number(total.String())))
	m.logf("agent %d books %d-%d for %d at %s: %d", agent, in, out, guests, total, r.status)
	held := m.overlapping(in, out)
	live := slices.DeleteFunc(slices.Clone(held), func(b *stayModel) bool { return !b.holds() })
	same := slices.IndexFunc(live, func(b *stayModel) bool {
		return b.agent == agent && b.in == in && b.out == out && b.guests == guests && price(out-in) == total
	})
	switch {
	case same >= 0:
		r.want(200).is("data.booking_id", live[same].id, "data.version", live[same].version, "data.status", live[same].status)
	case guests > 4:
		r.refused(400, "too_many_guests")
	case total != price(out-in):
		r.refused(400, "price_mismatch").is("expected_amount", float64(price(out-in))/100)
	case len(live) > 0:
		r.refused(409, "dates_taken")
	default:
		for _, b := range held { // what ran out made room
			b.move(schemas.Cancelled, "expired")
		}
		id := r.want(200).is("data.status", "pending", "data.version", 2).text("data.booking_id")
		m.bookings = append(m.bookings, &stayModel{
			id: id, agent: agent, in: in, out: out, guests: guests, status: schemas.Pending, version: 2,
			history: []string{string(schemas.BookingCreated), string(schemas.HostResponseNeeded)},
		})
	}
}

// changed holds an answer to a wish for another status to the state machine.
func (m *model) changed(r reply, b *stayModel, mine bool, to, from schemas.BookingStatus, version int64, reason string) {
	m.t.Helper()
	switch {
	case !mine:
		r.refused(404, "booking_not_found")
	case version != 0 && version != b.version:
		r.refused(409, "version_mismatch").is("current_status", b.status, "version", b.version)
	case b.status == to:
		r.want(200).is("data.old_status", to, "data.new_status", to, "data.version", b.version)
	case !legal[b.status][to], from != "" && b.status != from:
		r.refused(409, "illegal_status").is("current_status", b.status)
	case to == schemas.Confirmed && b.ranOut:
		r.refused(409, "booking_expired")
	case m.early(b, to):
		r.refused(409, "too_early").is("current_status", b.status, "version", b.version)
	default:
		r.want(200).is("data.old_status", b.status, "data.new_status", to, "data.version", b.version+1)
		b.move(to, reason)
	}
}

// legal is the state machine, written down a second time.
var legal = map[schemas.BookingStatus]map[schemas.BookingStatus]bool{
	schemas.Pending:   {schemas.Confirmed: true, schemas.Cancelled: true},
	schemas.Confirmed: {schemas.Cancelled: true, schemas.Completed: true, schemas.NoShow: true},
}

// arrive sets the clock to some day of the next command's stay, or around it.
func (m *model) arrive(b *stayModel) {
	m.today = 0
	if m.rand.IntN(3) > 0 {
		m.today = max(0, b.in-1+m.rand.IntN(b.out-b.in+3))
	}
	m.w.travel(m.today)
}

// leave sets it back to the day of all other commands.
func (m *model) leave() { m.today = 0; m.w.travel(0) }

// early says whether a stay cannot be over yet, or its guest not be absent.
func (m *model) early(b *stayModel, to schemas.BookingStatus) bool {
	return to == schemas.Completed && m.today < b.out || to == schemas.NoShow && m.today < b.in
}

func (m *model) version(b *stayModel) (v int64, headers []string) {
	if m.rand.IntN(3) > 0 {
		return 0, nil
	}
	v = max(1, b.version-int64(m.rand.IntN(2)))
	return v, []string{"If-Match", fmt.Sprintf("%q", fmt.Sprint(v))}
}

func (m *model) put() {
	b, agent := m.some(), m.rand.IntN(len(m.agents))
	if m.rand.IntN(4) > 0 {
		agent = max(0, b.agent)
	}
	to := []schemas.BookingStatus{schemas.Confirmed, schemas.Confirmed, schemas.Cancelled, schemas.Pending, schemas.Completed, schemas.NoShow}[m.rand.IntN(6)]
	v, headers := m.version(b)
	if to == schemas.Completed || to == schemas.NoShow {
		m.arrive(b)
		defer m.leave()
	}
	r := m.agents[agent].do("PUT", statusPath(b.id), map[string]any{"status": to, "reason": "because"}, headers...)
	m.logf("agent %d wants %s to be %s at %d: %d", agent, b.id, to, v, r.status)
	m.changed(r, b, agent == b.agent, to, "", v, "because")
}

func (m *model) answer() {
	b, host := m.some(), 0
	if m.rand.IntN(8) == 0 {
		host = 1
	}
	action := []string{"confirm", "confirm", "decline", "cancel", "complete", "no-show"}[m.rand.IntN(6)]
	to := map[string]schemas.BookingStatus{"confirm": schemas.Confirmed, "complete": schemas.Completed, "no-show": schemas.NoShow}[action]
	from, reason := schemas.BookingStatus(""), ""
	switch action {
	case "decline":
		to, from, reason = schemas.Cancelled, schemas.Pending, "declined by the host"
	case "cancel":
		to, reason = schemas.Cancelled, "cancelled by the host"
	}
	v, headers := m.version(b)
	if to == schemas.Completed || to == schemas.NoShow {
		m.arrive(b)
		defer m.leave()
	}
	id := []schemas.HostID{hostOne, hostTwo}[host]
	r := m.hosts[host].do("POST", hostPath(id, "/"+b.id+"/"+action), nil, headers...)
	m.logf("host %d says %s to %s at %d: %d", host, action, b.id, v, r.status)
	m.changed(r, b, host == 0 && b.agent >= 0, to, from, v, reason)
}

func (m *model) read() {
	b := m.some()
	if b.agent < 0 {
		return
	}
	reason := any(nil)
	if b.reason != "" {
		reason = b.reason
	}
	m.agents[b.agent].do("GET", statusPath(b.id), nil).want(200).is("data.status", b.status, "data.version", b.version,
		"data.check_in", day(b.in), "data.guests", b.guests, "data.cancellation_reason", reason)
	m.agents[(b.agent+1)%len(m.agents)].do("GET", statusPath(b.id), nil).want(404)
	m.hosts[0].do("GET", hostPath(hostOne, "/"+b.id), nil, "If-None-Match", fmt.Sprintf("%q", fmt.Sprint(b.version))).want(http.StatusNotModified)
}

// runOut lets the host's time for a request pass.
func (m *model) runOut() {
	if b := m.some(); b.status == schemas.Pending {
		m.w.exec(`update bookings set expires_at = now() - interval '1 second' where id = $1`, b.id)
		b.ranOut = true
		m.logf("%s runs out", b.id)
	}
}

func (m *model) list() {
	want := map[schemas.BookingStatus]int{}
	for _, b := range m.bookings {
		want[b.status]++
	}
	for status, n := range want {
		m.hosts[0].do("GET", hostPath(hostOne, "?limit=1&status="+string(status)), nil).want(200).is("data.total_count", n)
	}
}

func (m *model) ask() {
	in := 5 + m.rand.IntN(60)
	out := in + 1 + m.rand.IntN(4)
	free := func(in, out int) bool {
		return !slices.ContainsFunc(m.overlapping(in, out), func(b *stayModel) bool { return b.holds() })
	}
	r := m.agents[0].do("GET", asked(in, out), nil).want(200).is("data.is_available", free(in, out))
	for _, d := range r.get("data.alternative_dates").([]any) {
		at := schemas.Date(day(0)).NightsUntil(schemas.Date(d.(map[string]any)["check_in"].(string)))
		if !free(at, at+out-in) {
			m.t.Errorf("%d-%d is offered and taken", at, at+out-in)
		}
	}
}

// compare holds the table and the topic to the model.
func (m *model) compare() {
	m.t.Helper()
	if n := m.w.count(`select count(*) from bookings`); n != len(m.bookings) {
		m.t.Errorf("%d bookings, want %d", n, len(m.bookings))
	}
	m.readTopic()
	if len(m.events) != len(m.bookings) {
		m.t.Errorf("the topic has %d bookings, want %d", len(m.events), len(m.bookings))
	}
	for _, b := range m.bookings {
		n := m.w.count(`select count(*) from bookings where id = $1 and agent_id = $2 and status = $3 and version = $4 and cancellation_reason = $5
			and check_in = $6::text::date and check_out = $7::text::date and (confirmed_at is not null) = $8 and (cancelled_at is not null) = $9`,
			b.id, m.agents[b.agent].agent, b.status, b.version, b.reason, day(b.in), day(b.out),
			slices.Contains(b.history, string(schemas.BookingConfirmed)), b.status == schemas.Cancelled)
		if n != 1 {
			m.t.Errorf("the table has not %+v", *b)
		}
		m.told(b)
	}
}

// told holds a booking's events on the topic to the model: all of them, in order
// and without a gap, and in the latest record its whole state.
func (m *model) told(b *stayModel) {
	m.t.Helper()
	var types []string
	for i, e := range m.events[b.id] {
		if types = append(types, string(e.Type)); e.Version != int64(i)+1 || e.Booking.Version != e.Version {
			m.t.Errorf("event %d of %s has version %d", i+1, b.id, e.Version)
		}
	}
	if !slices.Equal(types, b.history) {
		m.t.Errorf("the events of %s are %q, want %q", b.id, types, b.history)
		return
	}
	last := &m.events[b.id][len(types)-1].Booking
	got := stayModel{id: string(last.ID), status: last.Status, version: last.Version, reason: last.CancellationReason, guests: last.Guests}
	want := stayModel{id: b.id, status: b.status, version: b.version, reason: b.reason, guests: b.guests}
	if !reflect.DeepEqual(got, want) || last.AgentID != m.agents[b.agent].agent || last.CheckIn != schemas.Date(day(b.in)) || last.CheckOut != schemas.Date(day(b.out)) ||
		last.TotalAmount != price(b.out-b.in) || (last.ConfirmedAt != nil) != slices.Contains(b.history, string(schemas.BookingConfirmed)) ||
		(last.CancelledAt != nil) != (b.status == schemas.Cancelled) {
		m.t.Errorf("the latest record of %s is %+v, want %+v", b.id, *last, *b)
	}
}
