package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// krib runs a command of the program on a database.
func krib(t *testing.T, database string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	env := func(name string) (string, bool) { return database, name == "DATABASE_URL" }
	var out, errs bytes.Buffer
	code = app.Run(t.Context(), args, env, &out, &errs)
	return code, out.String(), errs.String()
}

type key struct {
	ID, Name, State, Key, Prefix string
	AgentID                      string     `json:"agent_id"`
	Scopes                       []string   `json:"scopes"`
	RateLimit                    int        `json:"rate_limit_per_minute"`
	ExpiresAt                    *time.Time `json:"expires_at"`
	LastUsedAt                   *time.Time `json:"last_used_at"`
	Replaced                     *key
}

func asked[T any](t *testing.T, database string, args ...string) (v T) {
	t.Helper()
	code, out, errs := krib(t, database, append([]string{"keys"}, append(args, "--json")...)...)
	if code != 0 {
		t.Fatalf("krib keys %v ended with %d: %s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("krib keys %v: %v\n%s", args, err, out)
	}
	return v
}

func TestKeysAreMadeListedRotatedAndRevokedByACommand(t *testing.T) {
	database := testenv.Database(t)
	db, err := store.Open(t.Context(), database, store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	works := func(k key) bool {
		_, err := db.APIKey(t.Context(), schemas.HashAPIKey(k.Key))
		if err != nil && schemas.KindOf(err) != schemas.Unauthorized {
			t.Fatal(err)
		}
		return err == nil
	}
	first := asked[key](t, database, "create", "--agent-name", "Travel agent", "--name", "first", "--scopes", "webhooks:manage,bookings:read", "--expires-in", "90d")
	if !regexp.MustCompile(`^krib_live_[0-9a-f]{32}[0-9A-Za-z]{6}$`).MatchString(first.Key) || first.RateLimit != 100 || first.ExpiresAt == nil || !works(first) {
		t.Fatalf("made %+v", first)
	}
	second := asked[key](t, database, "create", "--agent", first.AgentID, "--name", "second", "--scopes", "admin", "--platform", "--env", "test", "--rate-limit", "0")
	if !strings.HasPrefix(second.Key, "krib_test_") || second.RateLimit != 0 || second.AgentID != first.AgentID || second.ExpiresAt != nil {
		t.Fatalf("made %+v", second)
	}
	next := asked[key](t, database, "rotate", first.ID)
	if until := next.Replaced.ExpiresAt; until == nil || time.Until(*until) > 24*time.Hour || time.Until(*until) < 23*time.Hour || !works(first) || !works(next) ||
		!next.ExpiresAt.Equal(*first.ExpiresAt) {
		t.Errorf("rotated to %+v, the old one is %+v", next, next.Replaced)
	}
	last := asked[key](t, database, "rotate", "--overlap", "0", "--expires-in", "1h", next.ID)
	if last.Replaced.State != "revoked" || works(next) || !works(last) || time.Until(*last.ExpiresAt) > time.Hour {
		t.Errorf("rotated to %+v, the old one is %+v", last, last.Replaced)
	}
	if code, out, errs := krib(t, database, "keys", "revoke", last.ID); code != 0 || !strings.Contains(out, last.ID) || works(last) {
		t.Errorf("revoking ended with %d: %s%s", code, out, errs)
	}
	if err := db.KeyUsed(t.Context(), schemas.KeyID(second.ID)); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, k := range asked[[]key](t, database, "list") {
		states[k.ID] = k.State
		if k.Key != "" || (k.LastUsedAt != nil) != (k.ID == second.ID) {
			t.Errorf("listed %+v", k)
		}
	}
	if len(states) != 4 || states[first.ID] != "live" || states[second.ID] != "live" || states[next.ID] != "revoked" || states[last.ID] != "revoked" {
		t.Errorf("states %v", states)
	}
	if live := asked[[]key](t, database, "list", "--live", "--agent", first.AgentID); len(live) != 2 {
		t.Errorf("%d live keys, want 2", len(live))
	}
	_, table, _ := krib(t, database, "keys", "list")
	if strings.Count(table, "\n") != 5 || !strings.Contains(table, second.Prefix) || strings.Contains(table, second.Key) || !strings.Contains(table, "100/min") {
		t.Errorf("the table:\n%s", table)
	}
	_, text, _ := krib(t, database, "keys", "create", "--agent", first.AgentID, "--name", "text", "--scopes", "bookings:read")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if shown := lines[len(lines)-1]; strings.Count(text, shown) != 1 || !works(key{Key: shown}) {
		t.Errorf("the last line is not the key:\n%s", text)
	}
}

func TestWhatIsWrongWithAKeysCommandIsOneLineThatNamesTheFlag(t *testing.T) {
	database := testenv.Database(t)
	create := func(args ...string) []string {
		return append([]string{"create", "--agent-name", "A", "--name", "n", "--scopes", "bookings:read"}, args...)
	}
	for _, c := range []struct {
		says string
		args []string
	}{
		{"say create, list, revoke or rotate", nil},
		{"say create, list, revoke or rotate", []string{"destroy"}},
		{"--agent:", []string{"create", "--name", "n", "--scopes", "bookings:read"}},
		{"--agent-name:", create("--agent", "agent_1")},
		{"--name:", create("--name", " ")},
		{"--scopes:", create("--scopes", "")},
		{"there is no scope \"all\"", create("--scopes", "all")},
		{"only a platform key", create("--scopes", "admin")},
		{"--env:", create("--env", "LIVE")},
		{"-rate-limit", create("--rate-limit", "many")},
		{"-rate-limit", create("--rate-limit", "-1")},
		{"-expires-in", create("--expires-in", "soon")},
		{"-expires-in", create("--expires-in", "99999d")},
		{"-expires-in", create("--expires-in", "0")},
		{"-colour", create("--colour", "red")},
		{"too many", create("please")},
		{"there is no agent \"none\"", []string{"create", "--agent", "none", "--name", "n", "--scopes", "admin", "--platform"}},
		{"the id of a key", []string{"revoke"}},
		{"not the key", []string{"revoke", "krib_live_secret"}},
		{"there is no API key", []string{"revoke", "key_none"}},
		{"there is no API key", []string{"rotate", "key_none"}},
		{"-overlap", []string{"rotate", "key_none", "--overlap", "-1h"}},
	} {
		code, out, errs := krib(t, database, append([]string{"keys"}, c.args...)...)
		if code == 0 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.says) || strings.Contains(errs, "secret") {
			t.Errorf("krib keys %q ended with %d, and says %q, not %q", c.args, code, errs, c.says)
		}
	}
	if code, _, errs := krib(t, "", "keys", "list"); code != 2 || !strings.Contains(errs, "DATABASE_URL") {
		t.Errorf("without a database it ends with %d: %s", code, errs)
	}
	if code, _, errs := krib(t, testenv.PostgresURL(t), "keys", "list"); code != 1 || errs != "krib keys: the database is not at this version; run krib migrate first\n" {
		t.Errorf("on an empty database it ends with %d: %s", code, errs)
	}
	if code, out, errs := krib(t, database, "keys", "create", "-h"); code != 0 || !strings.Contains(out, "-scopes") || !strings.Contains(out, "DATABASE_URL") {
		t.Errorf("-h ends with %d: %s", code, errs)
	}
	db, err := store.Open(t.Context(), database, store.RoleJobs, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Read(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		_, keys, err := tx.Keys(ctx, store.KeyFilter{})
		_, agents, e := tx.Agents(ctx, 1, 0)
		if keys != 0 || agents != 0 || e != nil {
			t.Errorf("%d keys and %d agents are left of what was refused (%v)", keys, agents, e)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
