package auth_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/caller"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// Keys of both forms with nothing wrong but that they were never made.
func TestUnknownKeysOfOneAddressCostItselfAndNoKeyThatWorks(t *testing.T) {
	url := testenv.Database(t)
	db, err := store.Open(t.Context(), url, store.RoleAPI, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	key, hash, prefix := schemas.NewAPIKey("test")
	_, err = conn.Exec(t.Context(), `insert into agents (id, name) values ('agent_a', 'A')`)
	if err == nil {
		_, err = conn.Exec(t.Context(), `insert into api_keys (id, agent_id, name, key_hash, key_prefix, scopes) values ('key_a', 'agent_a', 'a', $1, $2, '{bookings:read}')`, hash, prefix)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, err := auth.New(t.Context(), auth.Options{DB: db, JWTSecret: make([]byte, 32), KeyCache: time.Nanosecond, RefusalCache: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	shared, elsewhere := caller.With(t.Context(), "203.0.113.9"), caller.With(t.Context(), "198.51.100.1")
	good := func(ctx context.Context) error { _, err := a.Agent(ctx, "Bearer "+key.Reveal()); return err }
	if err := good(shared); err != nil {
		t.Fatal(err)
	}
	repeated, _, _ := schemas.NewAPIKey("test")
	for range 500 { // one program with an old key is looked up once
		if _, err := a.Agent(shared, "Bearer "+repeated.Reveal()); schemas.KindOf(err) != schemas.Unauthorized {
			t.Fatal(err)
		}
		if _, err := a.Agent(shared, "Bearer "+repeated.Reveal()[:30]); schemas.KindOf(err) != schemas.Unauthorized {
			t.Fatal(err)
		}
	}
	limited := false
	for i := 0; i < 100_000 && !limited; i++ {
		unknown, _, _ := schemas.NewAPIKey("live")
		text := unknown.Reveal()
		if i%2 == 0 {
			text = text[:len(text)-6] // the form without a checksum
		}
		_, err := a.Agent(shared, "Bearer "+text)
		limited = schemas.KindOf(err) == schemas.TooMany
		if !limited && schemas.KindOf(err) != schemas.Unauthorized {
			t.Fatal(err)
		}
	}
	if !limited {
		t.Fatal("any number of unknown keys is looked up")
	}
	if err := good(shared); err != nil {
		t.Errorf("a key that works behind the same address: %v", err)
	}
	if err := a.Guarded(shared, func(context.Context) error { t.Error("a ticket is looked up"); return nil }); schemas.KindOf(err) != schemas.TooMany {
		t.Errorf("a ticket from the address: %v", err)
	}
	unknown, _, _ := schemas.NewAPIKey("live")
	if _, err := a.Agent(elsewhere, "Bearer "+unknown.Reveal()); schemas.KindOf(err) != schemas.Unauthorized {
		t.Errorf("an unknown key from another address: %v", err)
	}
}
