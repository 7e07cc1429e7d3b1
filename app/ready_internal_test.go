package app

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// states makes the readiness of a started process with these roles, of which some
// parts do not work.
func states(roles, broken string) *readiness {
	fails := func(part string) error {
		if strings.Contains(" "+broken+" ", " "+part+" ") {
			return errors.New(part + " is away")
		}
		return nil
	}
	r := &readiness{
		roles:    strings.Split(roles, ","),
		kafka:    func() error { return fails("kafka") },
		postgres: func(context.Context) error { return fails("database") },
	}
	if roles == "all" {
		r.roles = allRoles
	}
	for _, role := range r.roles {
		r.add(role, "", func(context.Context) error { return fails(role) })
	}
	r.started.Store(!strings.Contains(broken, "starting"))
	r.drain.Store(strings.Contains(broken, "draining"))
	return r
}

func TestReadinessIsByRoleAndTheStatusFollowsTheAPI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		roles, broken string
		ready         bool
		lines         string
	}{
		{"all", "", true, "relay: ok\nfanout: ok\ndeliver: ok\nretry: ok\nsinks: ok\npush: ok\njobs: ok\napi: ok"},
		{"all", "kafka", true, "relay: kafka is away\nfanout: kafka is away\ndeliver: kafka is away\nretry: kafka is away\nsinks: kafka is away\npush: kafka is away\njobs: ok\napi: ok"},
		{"all", "database", false, "fanout: ok\ndeliver: ok\nretry: ok"},
		{"all", "database", false, "api: postgres: database is away"},
		{"all", "fanout", true, "fanout: fanout is away"},
		{"all", "push", false, "push: push is away"},
		{"all", "starting", true, "api: ok"},
		{"all", "starting relay", false, "relay: relay is away"},
		{"all", "draining", false, "api: draining"},
		{"api", "kafka", true, "api: ok"},
		{"push,api", "kafka push", false, "push: kafka is away"},
		{"relay", "kafka", false, "relay: kafka is away"},
		{"fanout", "database", true, "fanout: ok"},
		{"retry", "kafka", false, "retry: kafka is away"},
		{"deliver,retry", "kafka", false, "deliver: kafka is away\nretry: kafka is away"},
		{"jobs", "kafka", true, "jobs: ok"},
		{"jobs", "database", false, "jobs: postgres: database is away"},
		{"sinks", "sinks", false, "sinks: sinks is away"},
	} {
		p, err := states(c.roles, c.broken).report()
		first, _, _ := strings.Cut(p.text(err), "\n")
		if (err == nil) != c.ready || first != map[bool]string{true: "ready", false: "not ready"}[c.ready] || !strings.Contains(p.text(err), c.lines) {
			t.Errorf("the roles %s with %q away: %v\n%swant %t and\n%s", c.roles, c.broken, err, p.text(err), c.ready, c.lines)
		}
	}
}

func TestAHostThatAStrangerMayOwnIsRefused(t *testing.T) {
	t.Parallel()
	for host, ok := range map[string]bool{
		"127.0.0.1:9090": true, "localhost:9090": true, "LOCALHOST": true, "[::1]:9090": true, "10.1.2.3": true, "krib:9090": true, "krib-0.krib.prod.svc:9090": true,
		"krib-0.krib.prod.svc.cluster.local:9090": true, "krib-1.example.com:9090": true, "host.docker.internal:1": true,
		"evil.example:9090": false, "rebind.attacker.net": false, "127.0.0.1.nip.io:9090": false, "localhost.evil.example": false, "evil.example.": false,
		"krib-2.example.com": false, "local.": true, "a.local.evil.com:1": false,
	} {
		if privateName(host, []string{"krib-1.example.com"}) != ok {
			t.Errorf("%s is let in: %t", host, !ok)
		}
	}
}
