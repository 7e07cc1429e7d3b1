package email_test

import (
	"context"
	"fmt"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/email"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	host  = schemas.HostID("host_1")
	inbox = "host@example.com"
	guest = "amira@example.com"
)

// A ground has a host who wants mail in UTC, without quiet hours.
type ground struct {
	*testenv.Cluster
	t    *testing.T
	sink *store.DB
	sql  *pgxpool.Pool // past row level security
	mail *testenv.MailServer
	reg  *prometheus.Registry
}

func newGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{Cluster: testenv.Topics(t, nil), t: t, mail: testenv.SMTP(t), reg: prometheus.NewRegistry()}
	g.Config.Instance = "" // some tests have two sinks
	url := testenv.Database(t)
	var err error
	if g.sink, err = store.Open(t.Context(), url, store.RoleSink, 6); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.sink.Close)
	if g.sql, err = pgxpool.New(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.sql.Close)
	g.exec(`insert into hosts (id, name) values ($1, 'H'), ('host_2', 'H'), ('host_3', 'H')`, host)
	g.exec(`insert into host_settings (host_id, email, time_zone) values ($1, $2, 'UTC'), ('host_2', '', 'UTC')`, host, inbox)
	g.exec(`insert into host_settings (host_id, email, email_notifications) values ('host_3', 'three@example.com', false)`)
	return g
}

func (g *ground) exec(sql string, args ...any) {
	g.t.Helper()
	if _, err := g.sql.Exec(context.WithoutCancel(g.t.Context()), sql, args...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *ground) count(sql string, args ...any) (n int) {
	g.t.Helper()
	if err := g.sql.QueryRow(g.t.Context(), sql, args...).Scan(&n); err != nil {
		g.t.Fatal(err)
	}
	return n
}

// make makes a sink, so that its group has begun; run runs it.
func (g *ground) make(change ...func(*email.Options)) (run func() (stop func())) {
	g.t.Helper()
	server, err := email.ParseServer(schemas.Secret(g.mail.URL()))
	if err != nil {
		g.t.Fatal(err)
	}
	o := email.Options{
		Kafka: g.Config, DB: g.sink, Server: server, From: mail.Address{Name: "Krib", Address: "no-reply@krib.test"}, Dashboard: "https://krib.test/",
		Rate: 60_000, Logger: g.Config.Logger,
	}
	for _, c := range change {
		c(&o)
	}
	s, err := email.New(g.t.Context(), o)
	if err != nil {
		g.t.Fatal(err)
	}
	return func() func() { return testenv.Run(g.t, s.Run) }
}

func (g *ground) start(change ...func(*email.Options)) (stop func()) {
	g.t.Helper()
	return g.make(change...)()
}

func note(id string, change ...func(*schemas.Notification)) *schemas.Notification {
	now := schemas.Stamp(time.Now())
	n := &schemas.Notification{
		ID: schemas.NotificationID(id), HostID: host, Type: schemas.NotifyBookingMove, Title: "Title of " + id, Message: "Message of " + id,
		Priority: schemas.High, ActionURL: "/dashboard/bookings/bkg_1", CreatedAt: now, UpdatedAt: now,
	}
	for _, c := range change {
		c(n)
	}
	return n
}

func urgent(n *schemas.Notification) { n.Type = schemas.Urgent }

func to(h schemas.HostID) func(*schemas.Notification) {
	return func(n *schemas.Notification) { n.HostID = h }
}

func (g *ground) log(ns ...*schemas.Notification) {
	g.t.Helper()
	for _, n := range ns {
		f := schemas.FeedRecord{Kind: schemas.FeedNotification, HostID: n.HostID, At: n.CreatedAt, Notification: n}
		g.Produce(g.t, string(schemas.HostNotifications), string(n.HostID), f.Meta(), f)
	}
}

func event(id string, kind schemas.EventType, change ...func(*schemas.Event)) *schemas.Event {
	now := schemas.Stamp(time.Now())
	e := &schemas.Event{
		ID: schemas.EventID(id), Type: kind, Version: 2, OccurredAt: now, Changed: []string{}, PreviousStatus: schemas.Pending,
		Booking: schemas.Booking{
			ID: "bkg_1", Version: 2, AgentID: "agent_1", HostID: host, Status: schemas.Confirmed, CheckIn: "2030-01-10", CheckOut: "2030-01-12",
			Property: schemas.PropertyRef{ID: "prop_1", Title: "Marina View", Address: "1 Marina Walk", City: "Dubai", State: "Dubai"},
			Nights:   2, Guests: 3, TotalAmount: 95000, Currency: "AED", CreatedAt: now, UpdatedAt: now,
			Guest: schemas.Guest{FirstName: "Amira", LastName: "Haddad", Email: guest},
		},
	}
	for _, c := range change {
		c(e)
	}
	return e
}

func (g *ground) happen(es ...*schemas.Event) {
	g.t.Helper()
	for _, e := range es {
		g.Produce(g.t, string(schemas.BookingEvents), string(e.Booking.ID), e.Meta(), e)
	}
}

// ended waits until n rows of emails have ended, whichever way.
func (g *ground) ended(n int) {
	g.t.Helper()
	testenv.Eventually(g.t, fmt.Sprintf("%d rows have ended", n), func() bool {
		return g.count(`select count(*) from emails where state <> 'waiting'`) == n
	})
}

// subjects are those of the letters to somebody, sorted.
func (g *ground) subjects(to string) []string {
	var out []string
	for _, l := range g.mail.Letters() {
		if slices.Equal(l.To, []string{to}) {
			out = append(out, l.Subject())
		}
	}
	slices.Sort(out)
	return out
}

func (g *ground) want(to string, subjects ...string) {
	g.t.Helper()
	if got := g.subjects(to); !slices.Equal(got, subjects) {
		g.t.Errorf("%s has %q, want %q", to, got, subjects)
	}
}

// sentinel waits until everything before it was read: it is an urgent notification
// of its own. Partitions are read in any order, so there is one for each.
func (g *ground) sentinel(id string) {
	g.t.Helper()
	g.log(note(id, urgent))
	testenv.Eventually(g.t, "the sentinel is sent", func() bool { return slices.Contains(g.subjects(inbox), "Title of "+id) })
}

func TestAHostIsMailedWhatIsInItsInbox(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start()
	g.log(note("ntf_1"), note("ntf_2", to("host_2")), note("ntf_3", to("host_3")), note("ntf_4", to("host_4")))
	g.ended(1)
	l := g.mail.Letters()[0]
	from, err := l.Header.AddressList("From")
	if err != nil || from[0].Name != "Krib" || from[0].Address != "no-reply@krib.test" || l.From != "no-reply@krib.test" {
		t.Errorf("from %v, envelope %s, %v", from, l.From, err)
	}
	if l.Header.Get("Auto-Submitted") != "auto-generated" || !strings.HasSuffix(l.Header.Get("Message-Id"), "@krib.test>") || l.Header.Get("Date") == "" {
		t.Errorf("headers %v", l.Header)
	}
	for _, part := range []string{l.Text, l.HTML} {
		for _, want := range []string{"Title of ntf_1", "Message of ntf_1", "https://krib.test/dashboard/bookings/bkg_1"} {
			if !strings.Contains(part, want) {
				t.Errorf("no %q in:\n%s", want, part)
			}
		}
	}
	g.sentinel("ntf_end")
	g.want(inbox, "Title of ntf_1", "Title of ntf_end")
	if n := len(g.mail.Letters()); n != 2 {
		t.Errorf("%d letters: somebody who wants none got mail", n)
	}
}

// A record that comes again, a restart, and two sinks at once: each id once.
func TestNothingIsMailedTwiceHoweverManySinksRace(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	one, other := g.make(), g.make()
	stop := one()
	other()
	of := func(i int) *schemas.Event {
		return event(fmt.Sprintf("evt_%02d", i), schemas.BookingConfirmed, func(e *schemas.Event) {
			e.Booking.ID, e.Booking.Guest.Email = schemas.BookingID(fmt.Sprintf("bkg_%02d", i)), fmt.Sprintf("guest%02d@example.com", i)
		})
	}
	for i := range 30 {
		g.happen(of(i), of(i))
		if i == 15 {
			stop() // the other takes over, and may read again what was not committed
		}
	}
	g.log(note("ntf_1", urgent), note("ntf_1", urgent))
	g.ended(31)
	g.make()() // it reads nothing of the above, and what comes again is known
	for i := range 30 {
		g.happen(of(i))
	}
	g.log(note("ntf_1", urgent))
	g.happen(event("evt_end", schemas.BookingCancelled, func(e *schemas.Event) { e.Booking.Guest.Email = "end@example.com" }))
	g.ended(32)
	for i := range 30 {
		g.want(fmt.Sprintf("guest%02d@example.com", i), "Your booking is confirmed")
	}
	g.want(inbox, "Title of ntf_1")
	if n := len(g.mail.Letters()); n != 32 {
		t.Errorf("%d letters", n)
	}
}

func TestWhatComesWithinAWindowIsOneMail(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(func(o *email.Options) { o.Digest = time.Hour })
	g.log(note("ntf_1"), note("ntf_2"))
	testenv.Eventually(t, "both are queued", func() bool { return g.count(`select count(*) from emails`) == 2 })
	g.log(note("ntf_3"))
	// What asks for an answer does not wait, and takes nobody along.
	g.log(note("ntf_4", func(n *schemas.Notification) { n.Type, n.ActionRequired = schemas.NewBooking, true }))
	g.ended(1)
	g.want(inbox, "Title of ntf_4")
	if n := g.count(`select count(distinct due_at) from emails where state = 'waiting' and due_at between now() + interval '50 minutes' and now() + interval '1 hour'`); n != 1 {
		t.Fatalf("the window of three has %d ends", n)
	}
	g.exec(`update emails set due_at = now() where state = 'waiting'`)
	g.ended(4)
	g.want(inbox, "Title of ntf_1 (and 2 more)", "Title of ntf_4")
	l := g.mail.Letters()[1]
	for _, part := range []string{l.Text, l.HTML} {
		for _, id := range []string{"ntf_1", "ntf_2", "ntf_3"} {
			if strings.Count(part, "Message of "+id) != 1 {
				t.Errorf("%s is not there once:\n%s", id, part)
			}
		}
	}
}

// quiet gives the host quiet hours that have just begun.
func (g *ground) quiet(allowUrgent bool) {
	g.t.Helper()
	now := time.Now().UTC()
	minute := now.Hour()*60 + now.Minute()
	g.exec(`update host_settings set quiet_hours = true, quiet_start = $2, quiet_end = $3, quiet_allows_urgent = $4 where host_id = $1`,
		host, (minute+1439)%1440, (minute+120)%1440, allowUrgent)
}

func (g *ground) heldBack(n int) {
	g.t.Helper()
	testenv.Eventually(g.t, fmt.Sprintf("%d rows are held back", n), func() bool {
		return g.count(`select count(*) from emails where state = 'waiting' and due_at > now() + interval '5 minutes'`) == n
	})
}

func TestQuietHoursHoldMailButWhatIsUrgent(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.quiet(true)
	g.start()
	g.log(note("ntf_1"), note("ntf_2", func(n *schemas.Notification) { n.ActionRequired = true }), note("ntf_3", urgent))
	g.happen(event("evt_1", schemas.BookingConfirmed)) // the quiet hours are the host's
	g.heldBack(2)
	g.ended(2)
	g.want(inbox, "Title of ntf_3")
	g.want(guest, "Your booking is confirmed")
	g.exec(`update host_settings set quiet_hours = false`)
	g.exec(`update emails set due_at = now() where state = 'waiting'`) // as the next look would find them
	g.ended(4)
	g.want(inbox, "Title of ntf_1 (and 1 more)", "Title of ntf_3")
}

func TestQuietHoursHoldWhatIsUrgentWhereTheHostWantsThat(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.quiet(false)
	g.start()
	g.log(note("ntf_1", urgent))
	g.heldBack(1)
	if n := len(g.mail.Letters()); n != 0 {
		t.Errorf("%d letters", n)
	}
}

func TestAGuestIsMailedAtConfirmationAndCancellation(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start()
	confirmed := func(e *schemas.Event) {
		e.PreviousStatus, e.Booking.Status, e.Booking.CancellationReason = schemas.Confirmed, schemas.Cancelled, "the host found somebody richer"
	}
	expired := func(e *schemas.Event) { e.Booking.Status, e.Booking.CancellationReason = schemas.Cancelled, "expired" }
	withdrawn := func(e *schemas.Event) { e.Booking.Status = schemas.Cancelled }
	g.happen(event("evt_1", schemas.BookingCreated), event("evt_2", schemas.HostResponseNeeded), event("evt_3", schemas.BookingConfirmed),
		event("evt_4", schemas.PaymentReceived), event("evt_5", schemas.BookingCancelled, confirmed), event("evt_6", schemas.BookingCompleted),
		event("evt_7", schemas.BookingCancelled, expired), event("evt_8", schemas.BookingCancelled, withdrawn))
	g.ended(4)
	g.want(guest, "Your booking is cancelled", "Your booking is confirmed", "Your booking request has expired", "Your booking request is cancelled")
	if n := g.count(`select count(*) from emails`); n != 4 {
		t.Errorf("%d rows", n)
	}
	for _, l := range g.mail.Letters() {
		for _, part := range []string{l.Text, l.HTML} {
			for _, want := range []string{"Amira Haddad", "Marina View, 1 Marina Walk, Dubai", "2030-01-10", "2030-01-12", "AED 950.00", "bkg_1"} {
				if !strings.Contains(part, want) {
					t.Errorf("%s: no %q in:\n%s", l.Subject(), want, part)
				}
			}
			if strings.Contains(part, "richer") {
				t.Errorf("the reason is the host's own:\n%s", part)
			}
		}
	}
}

// What happened before the sink was first switched on is not mailed, and nothing
// that happens while it is stopped is lost, whether or not it had read anything.
func TestANewGroupBeginsAtTheEndAndMissesNothingAfterwards(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.log(note("ntf_before"))
	g.happen(event("evt_before", schemas.BookingConfirmed))
	g.start()() // and stopped, with nothing read
	g.log(note("ntf_between"), note("ntf_old", func(n *schemas.Notification) { n.CreatedAt = n.CreatedAt.Add(-49 * time.Hour) }))
	g.happen(event("evt_between", schemas.BookingCancelled))
	g.start()
	g.ended(2)
	g.sentinel("ntf_end")
	g.want(inbox, "Title of ntf_between", "Title of ntf_end")
	g.want(guest, "Your booking request is cancelled")
}
