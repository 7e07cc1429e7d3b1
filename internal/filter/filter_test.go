package filter_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/schemas"
)

var at = time.Date(2026, 5, 1, 20, 30, 0, 0, time.UTC)

// paid is an event that has everything.
func paid() *schemas.Event {
	return &schemas.Event{
		ID: "evt_1", Type: schemas.PaymentReceived, Version: 3, OccurredAt: at, Actor: schemas.Actor{Kind: schemas.ActorAgent, ID: "agent_1"},
		Changed: []string{"payment_status", "status"}, PreviousStatus: schemas.Pending, Reminder: schemas.ReminderHalf, AutoApproved: true,
		Payment: &schemas.Payment{Method: "card", Amount: 4450, Currency: "AED", Reference: "pi_1", At: at, Provider: "stripe", PaidTotal: 95000},
		Booking: schemas.Booking{
			ID: "bkg_1", Version: 3, AgentID: "agent_1", HostID: "host_1", Status: schemas.Confirmed, CheckIn: "2026-06-01", CheckOut: "2026-06-03",
			Property: schemas.PropertyRef{ID: "prop_1", Title: "Sea view", Address: "1 Marina Walk", City: "Dubai", State: "Dubai"},
			Nights:   2, Guests: 4, Guest: schemas.Guest{FirstName: "Zoë", LastName: "B", Email: "zoe@example.com", Phone: "501234567", CountryCode: "+971"},
			SpecialRequests: "A cot, please", TotalAmount: 95000, Currency: "AED", PaymentMethod: "stripe", PaymentStatus: schemas.Paid,
			CreatedAt: at.Add(-time.Hour), UpdatedAt: at, ExpiresAt: new(at.Add(time.Hour)), ConfirmedAt: new(at), CancelledAt: new(at), CancellationReason: "expired",
		},
	}
}

// bare is an event that has only what each must have.
func bare() *schemas.Event {
	return &schemas.Event{
		ID: "evt_2", Type: schemas.BookingCreated, Version: 1, OccurredAt: at,
		Booking: schemas.Booking{ID: "bkg_2", Version: 1, Status: schemas.Pending, CheckIn: "2026-12-30", CheckOut: "2027-01-02", CreatedAt: at, UpdatedAt: at},
	}
}

func compile(t testing.TB, text string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func TestAFilterSaysWhichEventsAreWanted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text       string
		paid, bare bool
	}{
		{`event.type == 'payment.received'`, true, false},
		{`event.type in ['booking.created', 'booking.cancelled']`, false, true},
		{`event.type.startsWith('booking.')`, false, true},
		{`event.id == 'evt_1' && event.version == 3 && event.auto_approved`, true, false},
		{`event.actor.kind == 'agent' && event.actor.id == booking.agent_id`, true, false},
		{`event.previous_status == 'pending' && booking.status == 'confirmed'`, true, false},
		{`'status' in event.changed`, true, false},
		{`event.changed.exists(name, name.startsWith('payment'))`, true, false},
		{`event.changed.all(name, name != 'total_amount')`, true, true},
		{`size(event.changed) == 0`, false, true},
		{`booking.property.city == 'Dubai' && booking.guests >= 4`, true, false},
		{`booking.guest.email.matches('(?i)^[^@]+@EXAMPLE[.]com$')`, true, false},
		{`booking.guest.first_name == 'Zoë'`, true, false},
		{`booking.special_requests.contains('cot')`, true, false},
		{`booking.nights < 7 ? booking.guests > 3 : true`, true, false},

		// Days compare as text.
		{`booking.check_in < '2026-07-01'`, true, false},
		{`booking.check_in >= '2026-12-01' && booking.check_out <= '2027-01-31'`, false, true},

		// Times compare as times, in any zone.
		{`event.occurred_at == timestamp('2026-05-02T00:30:00+04:00')`, true, true},
		{`event.occurred_at - booking.created_at > duration('30m')`, true, false},
		{`event.occurred_at.getFullYear() == 2026 && event.occurred_at.getHours() == 20`, true, true},
		{`event.occurred_at.getDate('Asia/Dubai') == 2`, true, true},

		// What is absent is null, or empty, and has() tells; what is in it is absent too.
		{`event.payment == null`, false, true},
		{`event.payment != null && event.payment.provider == 'stripe'`, true, false},
		{`event.payment.amount > 40`, true, false},
		{`event.payment.amount < 40`, false, true},
		{`has(event.payment.reference)`, true, false},
		{`has(event.payment)`, true, false},
		{`has(event.reminder) || has(event.previous_status)`, true, false},
		{`booking.confirmed_at == null`, false, true},
		{`has(booking.confirmed_at) && booking.confirmed_at >= event.occurred_at`, true, false},
		{`!has(booking.expires_at) || booking.expires_at > event.occurred_at`, true, true},
		{`booking.cancellation_reason == ''`, false, true},
		{`booking.property == null || booking.guest == null`, false, false},
		{`booking == booking && event.actor == event.actor`, true, true},
	} {
		f := compile(t, c.text)
		for _, e := range []struct {
			name  string
			event *schemas.Event
			want  bool
		}{{"paid", paid(), c.paid}, {"bare", bare(), c.bare}} {
			if got, err := f.Matches(t.Context(), e.event); got != e.want || err != nil {
				t.Errorf("%s of the %s event: got %v, %v, want %v", c.text, e.name, got, err, e.want)
			}
		}
	}
}

// Amounts are decimals. Whatever the spelling of the same one, they are equal.
func TestAmountsCompareExactly(t *testing.T) {
	t.Parallel()
	e := bare()
	for amount, texts := range map[schemas.Amount][]string{
		95000: {
			`A == 950`, `A == 950.0`, `A == 950.00`, `950 == A`, `A in [950, 1000]`, `A in [949.99, 950.00]`, `A >= 950 && A <= 950`,
			`!(A != 950) && !(A < 950) && !(A > 950.00)`, `A < 950.01 && A > 949.99`,
		},
		4450:                  {`A == 44.50`, `A == 44.5`, `A != 44`, `A > 44 && A < 45`, `!(A in [44, 45])`},
		7:                     {`A == 0.07`},
		29:                    {`A == 0.29`},
		110:                   {`A == 1.1`},
		schemas.MaxAmount - 1: {`A == 9999999.99`},
		schemas.MaxAmount:     {`A == 10000000`},
		0:                     {`A == 0`, `A == 0.00`, `!has(A)`},
	} {
		for _, text := range texts {
			e.Booking.TotalAmount = amount
			if got, err := compile(t, strings.ReplaceAll(text, "A", "booking.total_amount")).Matches(t.Context(), e); !got || err != nil {
				t.Errorf("%s with %s: %v, %v", text, amount, got, err)
			}
		}
	}
	// And all of them, as they are written on the wire.
	for amount := range schemas.Amount(20_000) {
		e.Booking.TotalAmount = amount
		if amount%97 != 0 {
			continue // each is a compilation
		}
		if got, err := compile(t, "booking.total_amount == "+amount.String()).Matches(t.Context(), e); !got || err != nil {
			t.Errorf("%s is not itself: %v", amount, err)
		}
	}
	if got, err := compile(t, `booking.guests == 2.0 && 2 == booking.guests && booking.guests in [2.0]`).Matches(t.Context(), &schemas.Event{Booking: schemas.Booking{Guests: 2}}); !got || err != nil {
		t.Errorf("whole numbers beside decimals: %v, %v", got, err)
	}
}

func TestAFilterThatIsWrongIsRefusedWithThePlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text         string
		line, column int
		says         string
	}{
		{``, 1, 1, "<EOF>"},
		{`booking.guests >`, 1, 17, "<EOF>"},
		{`booking.guests = 2`, 1, 16, "="},
		{`booking.property.citty == 'Dubai'`, 1, 17, "undefined field 'citty'"},
		{"booking.guests > 2\n  && booking.nites > 1", 2, 13, "undefined field 'nites'"},
		{"'Zoë' == booking.guest.name", 1, 23, "undefined field 'name'"},
		{"// a comment\nbooking.guests >\n\n  many", 4, 3, "undeclared reference to 'many'"},
		{`event.host_webhooks`, 1, 6, "undefined field 'host_webhooks'"},
		{`event.booking.id == ''`, 1, 6, "undefined field 'booking'"},
		{`events.id == ''`, 1, 1, "undeclared reference to 'events'"},
		{`booking.id == 7`, 1, 12, "(string, int)"},
		{`booking.total_amount == '950'`, 1, 22, "(double, string)"},
		{`booking.guests in ['2']`, 1, 16, "(int, list(string))"},
		{`booking.check_in < timestamp('2026-01-01T00:00:00Z')`, 1, 18, "(string, "},
		{`booking == event`, 1, 9, "(a booking, an event)"},
		{`booking.id`, 1, 1, "is string, and must be a condition"},
		{`booking`, 1, 1, "is a booking, and must be a condition"},
		{`null`, 1, 1, "must be a condition"},
		{`[true][0] ? 1 : 2`, 1, 1, "is int, and must be a condition"},
		{`dyn(booking).anything == 1`, 1, 4, "undeclared reference to 'dyn'"},
		{`type(booking) == type(event)`, 1, 5, "undeclared reference to 'type'"},
		{`Booking{id: ''} == booking`, 1, 8, "undeclared reference to 'Booking'"},
		{`booking.id.matches('[')`, 1, 20, "invalid matches argument"},
		{`event.occurred_at > timestamp('yesterday')`, 1, 31, "invalid timestamp argument"},
		{`event.occurred_at - event.occurred_at > duration('a day')`, 1, 50, "invalid duration argument"},
		{`booking.total_amount in [950, 44.50]`, 1, 31, "expected type 'int' but found 'double'"},
		{"booking.id == '\xff'", 1, 1, "is not UTF-8"},
		{`has(booking)`, 1, 5, "invalid argument to has() macro"},
	} {
		_, err := filter.Compile(c.text)
		e, ok := errors.AsType[*filter.Error](err)
		if !ok {
			t.Errorf("%q: got %v, want a filter.Error", c.text, err)
			continue
		}
		if e.Line != c.line || e.Column != c.column || !strings.Contains(e.Message, c.says) {
			t.Errorf("%q: got %q, want line %d, column %d: …%s…", c.text, e, c.line, c.column, c.says)
		}
	}
}

// What is the same for every event is a mistake of the filter, with its place.
func TestAFilterThatNoEventCanMatterForIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		column int
		says   string
	}{
		{`true`, 1, "does not ask about"},
		{`!(1 > 2)`, 1, "does not ask about"},
		{`[1, 2].exists(x, x > 1)`, 14, "does not ask about"},
		{`1/0 == 1`, 2, "division by zero"},
		{`7 % 0 == booking.guests`, 3, "modulus by zero"},
		{`booking.guests / 0 == 1`, 18, "division by zero"},
		{`booking.guests > 1 || int('x') == 1`, 26, "fails for every event"},
		{`booking.guests == [1, 2][5]`, 25, "index"},
		{`event.changed[-1] == 'status'`, 15, "no element before its first"},
		{`booking.guests > 9223372036854775807 + 1`, 38, "overflow"},
		{`bool('yes') || booking.guests > 1`, 5, "fails for every event"},
		{`duration(string(1)) < event.occurred_at - booking.created_at`, 9, "fails for every event"},
		{`booking.guests > 1 || true`, 20, "is true for every event"},
		{`1 > 2 && booking.guests > 1`, 7, "is false for every event"},
		{`[1].exists(x, 1 / 0 == x || booking.guests > 1)`, 17, "division by zero"},
	} {
		_, err := filter.Compile(c.text)
		e, ok := errors.AsType[*filter.Error](err)
		if !ok || e.Line != 1 || e.Column != c.column || !strings.Contains(e.Message, c.says) {
			t.Errorf("%q: got %v, want column %d: …%s…", c.text, err, c.column, c.says)
		}
	}
	for _, text := range []string{`true`, `1 > 2`, `booking.guests / 0 == 1`, `booking.guests > 1 || true`} {
		if _, err := filter.Load(text); err != nil {
			t.Errorf("%q: what an earlier release stored does not load: %v", text, err)
		}
	}
}

func TestAZoneOfATimeIsALiteralThatLoads(t *testing.T) {
	t.Parallel()
	for _, f := range []string{"getHours", "getMinutes", "getSeconds", "getMilliseconds", "getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek"} {
		for _, zone := range []string{
			`'x'`, `''`, `'Local'`, `'posixrules'`, `'localtime'`, `'Factory'`, `'/etc/localtime'`, `'../Asia/Dubai'`, `'asia/dubai'`, `'+24:00'`, `'+1:00'`, `'04:00'`, `'+05:30:00'`,
			`booking.id`, `'Asia/' + 'Dubai'`, `(booking.guests > 1 ? 'UTC' : 'x')`,
		} {
			text := "event.occurred_at." + f + "(" + zone + ") > 99"
			if _, err := filter.Compile(text); err == nil || !strings.Contains(err.Error(), "zone") && !strings.Contains(err.Error(), "distance from UTC") {
				t.Errorf("%s: got %v", text, err)
			}
		}
	}
	e := paid() // at 20:30 on Friday, 1 May 2026, in UTC
	for text, want := range map[string]bool{
		`event.occurred_at.getHours('Asia/Dubai') == 0`: true, `event.occurred_at.getDate('Asia/Dubai') == 2`: true, `event.occurred_at.getDayOfMonth('Asia/Dubai') == 1`: true,
		`event.occurred_at.getDayOfWeek('Asia/Tokyo') == 6`: true, `event.occurred_at.getDayOfYear('America/St_Johns') == 120`: true, `event.occurred_at.getMonth('UTC') == 4`: true,
		`event.occurred_at.getMinutes('Asia/Kathmandu') == 15`: true, `event.occurred_at.getHours('-12:30') == 8`: true, `event.occurred_at.getMinutes('+05:45') == 15`: true,
		`event.occurred_at.getFullYear('Pacific/Kiritimati') == 2026 && event.occurred_at.getSeconds('UTC') == 0 && event.occurred_at.getMilliseconds('UTC') == 0`: true,
	} {
		if got, err := compile(t, text).Matches(t.Context(), e); got != want || err != nil {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
}

func TestAnEvaluationEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f := compile(t, "["+strings.Repeat("1,", 300)+"1].exists(i, i > booking.guests)")
	why := errors.New("out of time")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if got, err := f.Matches(ctx, paid()); got || !errors.Is(err, why) {
		t.Errorf("got %v, %v", got, err)
	}
}

// What could grow is refused before it runs.
func TestAFilterThatMayCostTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	many := func(n int, text, between string) string { return strings.Repeat(text+between, n-1) + text }
	for _, c := range []struct{ name, text, says string }{
		{"too long", `booking.id == '` + strings.Repeat("x", filter.MaxLength) + `'`, "may have 2000"},
		{"nested", strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200), "recursion"},
		{"loops in loops", `[1, 2].all(x, [1, 2].all(y, x < y))`, "nesting limit"},
		{"lists made in loops", `event.changed.map(x, x + x).size() == 1`, "undeclared reference to 'map'"},
		{"lists made by filters", `event.changed.filter(x, x == 'a').size() == 1`, "undeclared reference to 'filter'"},
		{"a pattern that the guest writes", `booking.id.matches(booking.special_requests)`, "must be a literal"},
		{"a pattern that is computed", `booking.id.matches('a' + 'b')`, "must be a literal"},
		{"a large pattern", `booking.id.matches('(abc){900}')`, "exceeds limit"},
		{"a pattern that does not look large", `matches(booking.id, '(x?x?){200}')`, "make it simpler"},
		{"many patterns", many(20, `booking.special_requests.matches('(a|b|cd)*e.{9}f')`, " || "), "make it simpler"},
		{"a pattern in a loop", `event.changed.exists(c, c.matches('.*status.*') || booking.special_requests.matches('a.*b.*c'))`, "make it simpler"},
		{"a zone in a long loop", `[` + many(820, `1`, `,`) + `].exists(i, ` + many(5, `event.occurred_at.getHours('UTC') > 99`, ` || `) + `)`, "make it simpler"},
		{"constants in a long loop", `[` + many(300, `1`, `,`) + `].exists(i, ` + many(150, `false`, `||`) + `|| i > booking.guests)`, "make it simpler"},
		{"a list that is made in a loop", `[` + many(400, `1`, `,`) + `].exists(i, i in [booking.guests,` + many(80, `1`, `,`) + `])`, "make it simpler"},
		{"texts made of texts", many(40, `booking.special_requests`, `+`) + ` == ''`, "make it simpler"},
		{"numbers as texts in a loop", `[` + many(700, `1`, `,`) + `].exists(i, string(booking.total_amount) == '' || string(i) == booking.id)`, "make it simpler"},
		{"texts parsed in a loop", `event.changed.exists(c, ` + many(6, `timestamp(booking.special_requests) > event.occurred_at`, `||`) + `)`, "make it simpler"},
		{"maps", `size({'a': booking.guests}) == 1`, "no matching overload"},
		{"lists made of lists", `'a' in event.changed + event.changed`, "no matching overload"},
		{"bytes", `bytes(booking.id) == b'x'`, "undeclared reference"},
		{"texts searched in a loop", `event.changed.exists(c, ` + many(20, `booking.special_requests.contains(booking.property.title + booking.property.address)`, " || ") + `)`, "make it simpler"},
	} {
		if _, err := filter.Compile(c.text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want …%s…", c.name, err, c.says)
		}
	}
	// And what people write is not near the bound.
	compile(t, many(8, `(booking.property.city == 'Dubai' && booking.guest.email.matches('@example[.](com|org)$') && 'status' in event.changed)`, " || "))
}

// The estimate goes by the sizes that events have; one that has others is stopped
// by what its evaluation really costs.
func TestAnEventThatIsLargerThanEventsAreEndsItsEvaluation(t *testing.T) {
	t.Parallel()
	f := compile(t, `event.changed.exists(c, c.contains('never'))`)
	e := bare()
	e.Changed = []string{"status"}
	if got, err := f.Matches(t.Context(), e); got || err != nil {
		t.Fatalf("a plain event: %v, %v", got, err)
	}
	for range 10_000 {
		e.Changed = append(e.Changed, strings.Repeat("x", 100))
	}
	if got, err := f.Matches(t.Context(), e); err == nil || got {
		t.Errorf("a huge one: %v, %v", got, err)
	}
}

func TestAFilterThatHasNoAnswerIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`booking.confirmed_at < event.occurred_at`, `event.changed[3] == 'status'`, `booking.guests / booking.nights == 1`, `int(booking.id) == 2`,
		`timestamp(booking.check_in) < event.occurred_at`, `event.changed[booking.guests] == 'x'`,
	} {
		if got, err := compile(t, text).Matches(t.Context(), bare()); err == nil || got {
			t.Errorf("%s: got %v, %v, want an error", text, got, err)
		}
	}
	// What does not matter for the answer is no error.
	if got, err := compile(t, `booking.confirmed_at < event.occurred_at || booking.status == 'pending'`).Matches(t.Context(), bare()); !got || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAFilterMayBeUsedByManyAtOnce(t *testing.T) {
	t.Parallel()
	f := compile(t, `booking.total_amount >= 900 && event.changed.exists(c, c == 'status') && booking.guest.email.matches('@example')`)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				e, want := paid(), i%2 == 0
				if !want {
					e = bare()
				}
				if got, err := f.Matches(t.Context(), e); got != want || err != nil {
					t.Errorf("got %v, %v, want %v", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}
