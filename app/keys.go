package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

// keysCommands make, list, end and replace agents' API keys, on the database itself:
// it is how the first key of an installation comes to be.
func keysCommands() []command {
	part := func(name, does string, do func(context.Context, *keysCommand, []string) error) command {
		return command{name: name, does: does, run: func(ctx context.Context, args []string, env Lookup, out, _ io.Writer) error {
			k := &keysCommand{s: newSettings("keys " + name), env: env, out: out}
			k.c.databaseSetting(k.s)
			k.s.fs.BoolVar(&k.asJSON, "json", false, "answer as JSON")
			return do(ctx, k, args)
		}}
	}
	return []command{
		part("create", "make a key for an agent, and print it once", createKey), part("list", "keys with their limits, last use and state", listKeys),
		part("revoke", "end a key", revokeKey), part("rotate", "replace a key by a new one, with an overlap", rotateKey),
	}
}

// A keysCommand is what the four have in common.
type keysCommand struct {
	c      config
	s      *settings
	env    Lookup
	out    io.Writer
	asJSON bool
}

// flagOf says by which flag a member of a command's input was given.
var flagOf = map[string]string{
	"agent_id": "--agent", "agent_name": "--agent-name", "name": "--name", "environment": "--env", "scopes": "--scopes", "platform": "--platform",
	"rate_limit_per_minute": "--rate-limit", "expires_at": "--expires-in",
}

// parse reads the flags, and the id of a key where one is needed.
func (k *keysCommand) parse(args []string, needsID bool) (schemas.KeyID, error) {
	var id string
	var err error
	if needsID {
		k.s.takes = " ID"
		id, err = k.s.parseID(args, k.env, "the id of a key, which krib keys list shows,")
	} else {
		err = k.s.parse(args, k.env)
	}
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(id, schemas.KeyPrefix): // a key would stand in the shell's history already; say no more of it
		return "", fmt.Errorf("the id of a key is needed, not the key; krib keys list shows it (%w)", errUsage)
	case k.c.databaseURL == "":
		return "", fmt.Errorf("DATABASE_URL must be set (%w)", errUsage)
	}
	return schemas.KeyID(id), nil
}

// run does something on the database, for whoever has its URL: such an operator is
// bound by no scope.
func (k *keysCommand) run(ctx context.Context, do func(*store.DB, *producers.Producer) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db, err := store.Open(ctx, k.c.databaseURL, store.RoleJobs, 1)
	if err == nil {
		defer db.Close()
		err = do(db, producers.New(producers.Options{DB: db}))
	}
	if store.Outdated(err) {
		return errors.New("the database is not at this version; run krib migrate first")
	}
	return plain(err)
}

// plain is an error that says the flag in the place of the member, and nothing
// for programs.
func plain(err error) error {
	e, ok := errors.AsType[*schemas.Error](err)
	if !ok {
		return err
	}
	if len(e.Fields) > 0 && flagOf[e.Fields[0].Field] != "" {
		return fmt.Errorf("%s: %s (%w)", flagOf[e.Fields[0].Field], e.Detail, errUsage)
	}
	return errors.New(e.Detail)
}

func createKey(ctx context.Context, k *keysCommand, args []string) error {
	in := producers.NewKey{RateLimitPerMinute: producers.DefaultRateLimit}
	fs := k.s.fs
	fs.StringVar((*string)(&in.AgentID), "agent", "", "the id of the agent that gets the key")
	fs.StringVar(&in.AgentName, "agent-name", "", "the name of a new agent that gets the key")
	fs.StringVar(&in.Name, "name", "", "what people call the key")
	fs.StringVar(&in.Environment, "env", producers.DefaultEnvironment, "the word in the key, krib_<env>_…")
	fs.Func("scopes", "what it may do, separated by commas: "+strings.Join(schemas.Scopes(), ", "), list(&in.Scopes))
	fs.BoolVar(&in.Platform, "platform", false, "it sees the bookings and subscriptions of every agent")
	fs.Func("expires-in", "how long it works, such as 90d or 12h (default for ever)", func(v string) error { return from(&in.ExpiresAt, v) })
	fs.Func("rate-limit", fmt.Sprintf("requests a minute; 0 for no limit (default %d)", producers.DefaultRateLimit), number(&in.RateLimitPerMinute, 0, producers.MaxRateLimit))
	if _, err := k.parse(args, false); err != nil {
		return err
	}
	return k.run(ctx, func(_ *store.DB, p *producers.Producer) error {
		a, err := p.CreateKey(ctx, store.Scope{}, nil, "", in)
		if err != nil {
			return err
		}
		return k.show(&a)
	})
}

func rotateKey(ctx context.Context, k *keysCommand, args []string) error {
	in := producers.Rotation{Overlap: producers.DefaultOverlap}
	k.s.fs.Func("overlap", "how long the old key goes on working; 0 ends it at once (default 24h)", func(v string) (err error) {
		in.Overlap, err = lifetime(v)
		return err
	})
	k.s.fs.Func("expires-in", "how long the new key works (default until the old one would have ended)", func(v string) error { return from(&in.ExpiresAt, v) })
	id, err := k.parse(args, true)
	if err != nil {
		return err
	}
	return k.run(ctx, func(_ *store.DB, p *producers.Producer) error {
		a, err := p.RotateKey(ctx, store.Scope{}, nil, "", id, in)
		if err != nil {
			return err
		}
		return k.show(&a)
	})
}

func revokeKey(ctx context.Context, k *keysCommand, args []string) error {
	id, err := k.parse(args, true)
	if err != nil {
		return err
	}
	return k.run(ctx, func(_ *store.DB, p *producers.Producer) error {
		key, err := p.RevokeKey(ctx, store.Scope{}, "", id)
		if err != nil {
			return err
		}
		if k.asJSON {
			return printJSON(k.out, listed(&key))
		}
		_, err = fmt.Fprintf(k.out, "%s of %s (%s) is revoked\n", key.ID, key.AgentName, key.AgentID)
		return err
	})
}

func listKeys(ctx context.Context, k *keysCommand, args []string) error {
	var f store.KeyFilter
	k.s.fs.StringVar((*string)(&f.Agent), "agent", "", "only those of the agent with this id")
	k.s.fs.BoolVar(&f.LiveOnly, "live", false, "only those that work")
	if _, err := k.parse(args, false); err != nil {
		return err
	}
	return k.run(ctx, func(db *store.DB, _ *producers.Producer) error {
		return db.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
			found, _, err := tx.Keys(ctx, f)
			if err != nil {
				return err
			}
			return k.showAll(found)
		})
	})
}

// A listedKey is a key as --json tells it; Key is there only when it was made.
type listedKey struct {
	ID         schemas.KeyID   `json:"id"`
	AgentID    schemas.AgentID `json:"agent_id"`
	AgentName  string          `json:"agent_name"`
	Name       string          `json:"name"`
	Prefix     string          `json:"prefix"`
	Scopes     []string        `json:"scopes"`
	Platform   bool            `json:"platform"`
	RateLimit  int             `json:"rate_limit_per_minute"`
	State      store.KeyState  `json:"state"`
	ExpiresAt  *time.Time      `json:"expires_at"`
	RevokedAt  *time.Time      `json:"revoked_at"`
	LastUsedAt *time.Time      `json:"last_used_at"`
	CreatedAt  time.Time       `json:"created_at"`
	Key        string          `json:"key,omitempty"`
	Replaced   *listedKey      `json:"replaced,omitempty"`
}

func listed(k *store.Key) listedKey {
	return listedKey{
		ID: k.ID, AgentID: k.AgentID, AgentName: k.AgentName, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, Platform: k.Platform,
		RateLimit: k.RateLimitPerMinute, State: k.State(time.Now()), ExpiresAt: k.ExpiresAt, RevokedAt: k.RevokedAt, LastUsedAt: k.LastUsedAt,
		CreatedAt: k.CreatedAt,
	}
}

// show prints a new key, the one time that it can be seen. As text it is the last
// line, for a shell to take with tail.
func (k *keysCommand) show(a *producers.KeyAnswer) error {
	if k.asJSON {
		v := listed(&a.Key)
		v.Key = a.Secret.Reveal()
		if a.Replaced != nil {
			old := listed(a.Replaced)
			v.Replaced = &old
		}
		return printJSON(k.out, v)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "key %s (%s) of agent %s (%s)\n", a.Key.ID, a.Key.Name, a.Key.AgentID, a.Key.AgentName)
	if old := a.Replaced; old != nil && old.RevokedAt != nil {
		fmt.Fprintf(&b, "it replaces %s, which is revoked\n", old.ID)
	} else if old != nil {
		fmt.Fprintf(&b, "it replaces %s, which works until %s\n", old.ID, moment(old.ExpiresAt))
	}
	fmt.Fprintf(&b, "keep the key, it is not shown again:\n%s\n", a.Secret.Reveal())
	_, err := io.WriteString(k.out, b.String())
	return err
}

func (k *keysCommand) showAll(found []store.Key) error {
	if k.asJSON {
		views := make([]listedKey, len(found))
		for i := range found {
			views[i] = listed(&found[i])
		}
		return printJSON(k.out, views)
	}
	w := tabwriter.NewWriter(k.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tAGENT\tNAME\tPREFIX\tSCOPES\tPLATFORM\tLIMIT\tEXPIRES\tLAST USE\tSTATE")
	for i := range found {
		f := &found[i]
		limit := "none"
		if f.RateLimitPerMinute > 0 {
			limit = strconv.Itoa(f.RateLimitPerMinute) + "/min"
		}
		fmt.Fprintf(w, "%s\t%s (%s)\t%s\t%s\t%s\t%t\t%s\t%s\t%s\t%s\n", f.ID, f.AgentID, f.AgentName, f.Name, f.Prefix,
			strings.Join(slices.Sorted(slices.Values(f.Scopes)), ","), f.Platform, limit, moment(f.ExpiresAt), moment(f.LastUsedAt), f.State(time.Now()))
	}
	return w.Flush()
}

func moment(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// from is the moment that is a lifetime from now.
func from(at **time.Time, v string) error {
	d, err := lifetime(v)
	if err == nil && d == 0 {
		err = errors.New("must be longer than 0")
	}
	if err != nil {
		return err
	}
	t := schemas.Stamp(time.Now().Add(d))
	*at = &t
	return nil
}

// lifetime takes days beside the units of Go.
func lifetime(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if days, ok := strings.CutSuffix(v, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(n, 10_000)) * day
	}
	if err != nil || d < 0 || d > 3650*day {
		return 0, errors.New("must be a duration such as 12h or 90d, of ten years at most")
	}
	return d, nil
}
