package email_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/email"
)

// metric is the sum of a counter's series that carry the label's value, if one is
// given.
func (g *ground) metric(name, value string) (sum float64) {
	g.t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (value == "" || m.GetLabel()[0].GetValue() == value) {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func (g *ground) measured(o *email.Options) { o.Registry = g.reg }

func TestMailWaitsWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.mail.Stop()
	g.start(g.measured)
	var want []string
	for i := range 5 {
		e := event(fmt.Sprintf("evt_%d", i), schemas.BookingConfirmed)
		g.happen(e)
		want = append(want, "Your booking is confirmed")
	}
	testenv.Eventually(t, "all wait untouched, and the server was tried twice", func() bool {
		return g.count(`select count(*) from emails where state = 'waiting' and attempts = 0 and mail_id is null`) == 5 &&
			g.metric("krib_email_unreachable_total", "") >= 2
	})
	g.mail.Start()
	g.ended(5)
	g.want(guest, want...)
}

// The server ends sessions as it likes; the next mail goes over a new one and has
// used up no attempt.
func TestASessionThatTheServerEndedCostsNothing(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start(g.measured)
	g.log(note("ntf_1"))
	g.ended(1)
	g.mail.Stop()
	g.mail.Start()
	g.log(note("ntf_2"))
	g.ended(2)
	g.want(inbox, "Title of ntf_1", "Title of ntf_2")
	if n := g.count(`select count(*) from emails where attempts <> 1`); n != 0 {
		t.Errorf("%d rows were not sent at their first attempt", n)
	}
}

func TestAMailThatIsRefusedForGoodIsGivenUpWithItsReasonAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.mail.Judge(func(to string) error {
		if to == "nobody@example.com" {
			return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "there is nobody of that name"}
		}
		return nil
	})
	g.start(g.measured)
	at := func(address string) func(*schemas.Event) {
		return func(e *schemas.Event) { e.Booking.Guest.Email = address }
	}
	g.happen(event("evt_1", schemas.BookingConfirmed, at("nobody@example.com")), event("evt_2", schemas.BookingConfirmed),
		event("evt_3", schemas.BookingConfirmed, at("no address")))
	g.ended(3)
	g.want(guest, "Your booking is confirmed")
	if n := g.count(`select count(*) from emails where state = 'refused' and attempts = 1 and (reason like '%550%there is nobody of that name%' or reason like 'reading the address%')`); n != 2 {
		t.Errorf("%d rows were refused with their reason", n)
	}
	if n := g.mail.Tries(); n != 2 {
		t.Errorf("the server was asked for %d recipients", n)
	}
	if got := g.metric("krib_email_attempts_total", "refused"); got != 2 {
		t.Errorf("the metric says %v", got)
	}
}

// Each attempt is the same mail under the same Message-ID, whatever has come for
// its host meanwhile, and after ten it is given up.
func TestAMailThatIsNotTakenIsTriedAgainAsItWas(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	full := &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "the mailbox is full"}
	g.mail.Judge(func(string) error { return full })
	g.start(g.measured)
	g.log(note("ntf_1"))
	after := func(attempts int) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprintf("attempt %d has failed", attempts), func() bool {
			return g.count(`select count(*) from emails where id = 'ntf_1' and attempts = $1 and reason like '%452%'`, attempts) == 1
		})
	}
	after(1)
	if n := g.count(`select count(*) from emails where due_at between now() and now() + interval '31 seconds'`); n != 1 {
		t.Error("the second attempt is not after half a minute")
	}
	g.log(note("ntf_2", func(n *schemas.Notification) { n.HostID = "host_4" })) // wants no mail
	g.exec(`update emails set due_at = now()`)
	after(2)
	g.mail.Judge(func(string) error { return nil })
	g.log(note("ntf_3"))
	g.ended(1) // the other; its end is written
	g.exec(`update emails set due_at = now() where state = 'waiting'`)
	g.ended(2)
	g.want(inbox, "Title of ntf_1", "Title of ntf_3")
	g.mail.Judge(func(string) error { return full })
	g.log(note("ntf_4"))
	testenv.Eventually(t, "the first attempt has failed", func() bool {
		return g.count(`select count(*) from emails where attempts = 1 and state = 'waiting'`) == 1
	})
	g.exec(`update emails set due_at = now(), attempts = 9 where state = 'waiting'`)
	g.ended(3)
	if n := g.count(`select count(*) from emails where state = 'refused' and attempts = 10 and reason like '%the mailbox is full%'`); n != 1 {
		t.Error("it was not given up after ten attempts, or lost its reason")
	}
}

// A sender that was killed leaves its mail leased; another one sends it when the
// lease is over, as the mail that it was.
func TestAMailWhoseSenderWasKilledIsSentWhenItsLeaseIsOver(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.exec(`insert into emails (id, host_id, recipient, content, urgent, happened_at, mail_id, due_at)
		select 'ntf_' || n, $1, '', jsonb_build_object('title', 'Title of ntf_' || n, 'message', ''), false, now() + n * interval '1 ms', mail, now() + wait
		from (values (1, 'ntf_1', interval '3 s'), (2, 'ntf_1', '3 s'), (3, null, '0')) v (n, mail, wait)`, host)
	g.start()
	g.ended(1)
	g.want(inbox, "Title of ntf_3")
	g.exec(`update emails set due_at = now() where state = 'waiting'`)
	g.ended(3)
	g.want(inbox, "Title of ntf_1 (and 1 more)", "Title of ntf_3")
}

func TestWhatNobodyHasToBeToldAnyMoreIsDropped(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.quiet(true)
	g.start(g.measured)
	soon := schemas.Stamp(time.Now().Add(time.Hour))
	g.log(note("ntf_1", func(n *schemas.Notification) { n.ExpiresAt = &soon }), note("ntf_2"), note("ntf_3"))
	g.heldBack(3)
	g.exec(`update emails set expires_at = now() where id = 'ntf_1'`)
	g.exec(`update emails set happened_at = now() - interval '73 hours' where id = 'ntf_2'`)
	g.exec(`update host_settings set email_notifications = false`)
	g.exec(`update emails set due_at = now()`)
	g.ended(3)
	for _, why := range []string{"expired", "stale", "unwanted"} {
		if n := g.count(`select count(*) from emails where state = 'dropped' and reason = $1`, why); n != 1 {
			t.Errorf("%d rows were dropped as %s", n, why)
		}
		if got := g.metric("krib_email_dropped_total", why); got != 1 {
			t.Errorf("the metric of %s says %v", why, got)
		}
	}
	if n := len(g.mail.Letters()); n != 0 {
		t.Errorf("%d letters", n)
	}
}

// Whatever stands in a record, a mail has the headers that it is given and shows
// texts as texts.
func TestNothingInARecordBecomesMarkupOrAHeader(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.start()
	g.log(note("ntf_1\r\nX-Evil: id", func(n *schemas.Notification) {
		n.Title = "A title\r\nBcc: victim@example.com\r\n\r\n<b>body</b>\x00 ü"
		n.Message, n.ActionURL = "<script>alert(1)</script>\r\n.\r\nQUIT", "javascript:alert(1)"
	}))
	g.happen(event("evt_1", schemas.BookingConfirmed, func(e *schemas.Event) {
		e.Booking.Guest.FirstName, e.Booking.Property.Title = "<script>alert(2)</script>", `"><img src=x onerror=alert(3)>`
	}))
	g.ended(2)
	for _, l := range g.mail.Letters() {
		if len(l.To) != 1 || l.Header.Get("Bcc") != "" || l.Header.Get("X-Evil") != "" || strings.ContainsAny(l.Subject(), "\r\n\x00") {
			t.Errorf("to %v, headers %v", l.To, l.Header)
		}
		for _, bad := range []string{"<script", "<img", "<b>", "javascript:"} {
			if strings.Contains(l.HTML, bad) {
				t.Errorf("%s in:\n%s", bad, l.HTML)
			}
		}
		if !strings.Contains(l.Text, "<script>") || !strings.Contains(l.HTML, "&lt;script&gt;") {
			t.Errorf("the text is not what was written:\n%s\n%s", l.Text, l.HTML)
		}
	}
	g.want(inbox, "A title Bcc: victim@example.com <b>body</b>\uFFFD ü")
}

func TestARecordThatCannotBeDecodedIsSetAsideAndTheRestIsMailed(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	run := g.make(g.measured)
	for _, bad := range []string{"{", "null", `{"kind":"notification"}`, `{"kind":"notification","notification":{"id":"ntf_x"}}`} {
		g.ProduceRecord(t, &kgo.Record{Topic: string(schemas.HostNotifications), Key: []byte(host), Value: []byte(bad)})
	}
	for _, bad := range []string{"]", `{"type":"booking.confirmed"}`} {
		g.ProduceRecord(t, &kgo.Record{Topic: string(schemas.BookingEvents), Key: []byte("bkg_1"), Value: []byte(bad)})
	}
	g.log(note("ntf_1"))
	g.happen(event("evt_1", schemas.BookingConfirmed))
	run()
	g.ended(2)
	g.Read(t, string(schemas.PoisonRecords), 5)
}

// The bound is the cluster's: two sinks together keep it.
func TestMailLeavesNoFasterThanItMay(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	slow := func(o *email.Options) { o.Rate = 240 } // one each quarter of a second
	g.start(slow)
	g.start(slow)
	began := time.Now()
	for i := range 9 {
		g.happen(event(fmt.Sprintf("evt_%d", i), schemas.BookingConfirmed))
	}
	g.ended(9)
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("nine mails left within %v", took)
	}
}
