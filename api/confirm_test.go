package api_test

import (
	"testing"

	"github.com/krib-ai/krib/schemas"
)

// Confirming is the host's. What an agent's key may do is what was asked for when it
// was made, on each route that can do it.
func TestKeyConfirmsOnlyWithTheScopeForIt(t *testing.T) {
	w := newWorld(t)
	host := w.host(hostOne)
	confirmed := map[string]any{"status": "confirmed"}
	ordinary := [][]string{
		{"bookings:write"},
		{"bookings:read", "bookings:write", "webhooks:manage", "notifications:write", "events:read"},
		{"bookings:write", "events:read"},
	}
	for i, scopes := range ordinary {
		a := w.key(scopes...)
		id := a.book(10 * (i + 1))
		before := w.outbox()
		a.do("PUT", statusPath(id), confirmed).refused(403, "missing_scope")
		a.do("PUT", statusPath(id), with(map[string]any{}, "status", "confirmed", "version", 2, "reason", "x")).refused(403, "missing_scope")
		a.model().refuses("change_booking_status", map[string]any{"booking_id": id, "status": "confirmed"}, 403, "missing_scope")
		a.do("POST", approvePath(id), nil).want(200).is("success", false)
		a.do("PUT", statusPath("bkg_of_nobody"), confirmed).refused(404, "booking_not_found")
		if n := w.outbox() - before; n != 0 || w.count(`select count(*) from bookings where id = $1 and status = 'pending' and version = 2`, id) != 1 {
			t.Errorf("%v: %d outbox rows, or the booking has changed", scopes, n)
		}
		host.do("POST", hostPath(hostOne, "/"+id+"/confirm"), nil).want(200)
		a.do("PUT", statusPath(id), confirmed).want(200).is("data.old_status", "confirmed") // nothing to do
		w.actor(id, schemas.Actor{Kind: schemas.ActorHost, ID: string(hostOne)}, false)
		a.do("PUT", statusPath(id), map[string]any{"status": "cancelled"}).want(200) // its own to take back
	}

	a := w.key("bookings:write", "bookings:confirm")
	id := a.book(40)
	a.do("PUT", statusPath(id), confirmed).want(200)
	w.actor(id, schemas.Actor{Kind: schemas.ActorAgent, ID: string(a.agent)}, false)

	b, operator := w.key("bookings:write"), w.key("platform", "bookings:write")
	id = b.book(50)
	operator.do("PUT", statusPath(id), confirmed).want(200)
	w.actor(id, schemas.Actor{Kind: schemas.ActorAgent, ID: string(operator.agent), Platform: true}, false)

	id = b.book(60)
	host.do("PUT", settingsPath(hostOne), map[string]any{"auto_approve_bookings": true}).want(200)
	b.do("PUT", statusPath(id), confirmed).refused(403, "missing_scope")
	b.do("POST", approvePath(id), nil).want(200).is("success", true, "data.status", "confirmed")
	w.actor(id, schemas.Actor{Kind: schemas.ActorAgent, ID: string(b.agent)}, true)
}

// A scope that reads like confirming but is for nothing else opens nothing else.
func TestScopeForConfirmingOpensNothingElse(t *testing.T) {
	w := newWorld(t)
	a := w.key("bookings:confirm")
	a.do("PUT", statusPath("bkg_1"), map[string]any{"status": "confirmed"}).refused(403, "missing_scope")
	a.do("POST", bookings, stay(7)).refused(403, "missing_scope")
	a.do("GET", statusPath("bkg_1"), nil).refused(403, "missing_scope")
}

// actor wants the booking's confirmation to name who did it.
func (w *world) actor(id string, want schemas.Actor, auto bool) {
	w.t.Helper()
	for _, e := range w.events(id) {
		if e.Type != schemas.BookingConfirmed {
			continue
		}
		if e.Actor != want || e.AutoApproved != auto {
			w.t.Errorf("confirmed by %+v (auto %v), want %+v (%v)", e.Actor, e.AutoApproved, want, auto)
		}
		return
	}
	w.t.Errorf("%s has no confirmation", id)
}
