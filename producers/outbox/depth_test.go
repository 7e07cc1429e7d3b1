package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
)

// figures are what a scrape has of the outbox.
func figures(t *testing.T, d *Depth) string {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(d)
	found, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s=%g", strings.TrimPrefix(f.GetName(), "krib_outbox_"), f.GetMetric()[0].GetGauge().GetValue()))
	}
	return strings.Join(out, " ")
}

func TestTheOutboxIsCountedOnceInFiveSecondsAndItsAgeGrows(t *testing.T) {
	t.Parallel()
	now, looks := time.Unix(1_000, 0), 0
	state, failure := store.OutboxState{Rows: 3, Age: time.Minute, SetAside: 1}, error(nil)
	d := newDepth(func(context.Context) (store.OutboxState, error) { looks++; return state, failure }, func() time.Time { return now })
	for _, c := range []struct {
		after time.Duration
		want  string
		looks int
		then  func()
	}{
		{0, "lag_seconds=60 oldest_seconds=60 rows=3 set_aside_rows=1", 1, func() { state = store.OutboxState{} }},
		{4 * time.Second, "lag_seconds=64 oldest_seconds=64 rows=3 set_aside_rows=1", 1, func() {}},
		{time.Second, "lag_seconds=0 oldest_seconds=0 rows=0 set_aside_rows=0", 2, func() { failure = errors.New("no database") }},
		{time.Second, "lag_seconds=0 oldest_seconds=0 rows=0 set_aside_rows=0", 2, func() {}},
		{4 * time.Second, "", 3, func() { failure = nil }},
		{time.Second, "", 3, func() {}},
		{4 * time.Second, "lag_seconds=0 oldest_seconds=0 rows=0 set_aside_rows=0", 4, func() {}},
	} {
		now = now.Add(c.after)
		if got := figures(t, d); got != c.want || looks != c.looks {
			t.Errorf("at %v: %q after %d looks, want %q after %d", now.Unix(), got, looks, c.want, c.looks)
		}
		c.then()
	}
}

func TestEveryRoleMayCountTheOutbox(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	g.put(t, events, "one", "v1", "v2")
	for _, role := range []store.Role{store.RoleAPI, store.RoleRelay, store.RoleSink, store.RoleJobs} {
		db, err := store.Open(t.Context(), g.url, role, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		testenv.Eventually(t, string(role)+" sees the rows grow older", func() bool {
			s, err := db.OutboxState(t.Context())
			if err != nil || s.Rows != 2 || s.SetAside != 0 {
				t.Fatalf("%s: %+v, %v", role, s, err)
			}
			return s.Age > 0 && s.Age < time.Hour
		})
	}
}
