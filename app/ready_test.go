package app_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

// served runs krib serve until the test ends and returns its admin listener's URL.
func served(t *testing.T, vars map[string]string, roles string, more ...string) (admin string) {
	t.Helper()
	log := &testenv.Output{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	args := append([]string{"serve", "--roles", roles, "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, more...)
	go func() {
		ended <- app.Run(ctx, args, func(k string) (string, bool) { v, ok := vars[k]; return v, ok }, io.Discard, log)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("krib serve --roles=%s ended with %d: %s", roles, code, log)
		}
	})
	ready := regexp.MustCompile(`msg=ready api=\S+ admin=(\S+)`)
	testenv.Eventually(t, "krib serve --roles="+roles+" is ready", func() bool {
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("it ended with %d: %s", code, log)
		default:
		}
		m := ready.FindStringSubmatch(log.String())
		if m == nil {
			return false
		}
		admin = "http://" + m[1]
		return true
	})
	return admin
}

func get(t *testing.T, url string, host ...string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if len(host) > 0 {
		req.Host = host[0]
	}
	res, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// installation is a database and a broker of their own, and what serve needs.
func installation(t *testing.T) (vars map[string]string, broker *kfake.Cluster) {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return map[string]string{
		"DATABASE_URL": testenv.Database(t), "KRIB_KAFKA_BROKERS": strings.Join(broker.ListenAddrs(), ","), "WEBHOOK_SECRET_KEY": "only for this test",
		"KRIB_JWT_SECRET": "only for this test", "KRIB_TOPIC_PARTITIONS": "1", "KRIB_RETRY_TIERS": "1s",
	}, broker
}

// With its broker gone a process that only relays or delivers is not ready, one with
// the API is, and each says which role waits; what is accepted meanwhile shows in the
// figures of every process, and all of them stay alive.
func TestABrokerThatIsGoneShowsInReadinessAndInTheOutbox(t *testing.T) {
	t.Parallel()
	vars, broker := installation(t)
	admins := map[string]string{}
	for _, roles := range []string{"all", "relay", "fanout,deliver,retry", "jobs"} {
		admins[roles] = served(t, vars, roles)
	}
	for roles, admin := range admins {
		if status, body := get(t, admin+"/readyz"); status != 200 || strings.Contains(body, "unreachable") {
			t.Errorf("with a broker the roles %s are %d: %s", roles, status, body)
		}
	}
	broker.Close()
	db, err := pgx.Connect(t.Context(), vars["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(t.Context())) }()
	if _, err := db.Exec(t.Context(), `insert into outbox (topic, key, headers, value, created_at)
		select 'booking.events', 'k', '[]', '{}', now() - interval '8 minutes' from generate_series(1, 3)`); err != nil {
		t.Fatal(err)
	}
	for roles, want := range map[string]int{"all": 200, "relay": 503, "fanout,deliver,retry": 503, "jobs": 200} {
		testenv.Eventually(t, "the roles "+roles+" report it", func() bool {
			status, body := get(t, admins[roles]+"/readyz")
			for _, role := range []string{"relay", "fanout", "deliver", "retry", "push"} {
				if strings.Contains(body, role+": ") && !strings.Contains(body, role+": kafka: unreachable since 20") {
					return false
				}
			}
			return status == want
		})
		testenv.Eventually(t, "the roles "+roles+" report the rows", func() bool {
			_, body := get(t, admins[roles]+"/metrics")
			return strings.Contains(body, "\nkrib_outbox_rows 3\n") && regexp.MustCompile(`(?m)^krib_outbox_oldest_seconds 4[89]\d`).MatchString(body) &&
				regexp.MustCompile(`(?m)^krib_outbox_lag_seconds 4[89]\d`).MatchString(body)
		})
		if status, body := get(t, admins[roles]+"/healthz"); status != 200 || body != "alive\n" {
			t.Errorf("the roles %s are not alive: %d %s", roles, status, body)
		}
	}
	if _, body := get(t, admins["all"]+"/readyz"); !strings.Contains(body, "\napi: ok\n") || !strings.Contains(body, "\njobs: ok\n") {
		t.Errorf("with all roles the body is %s", body)
	}
}

func TestProfilesAndForeignHostsAreRefusedByTheAdminListener(t *testing.T) {
	t.Parallel()
	vars, _ := installation(t)
	plain := served(t, vars, "jobs")
	vars = maps.Clone(vars)
	vars["KRIB_ADMIN_PPROF"], vars["KRIB_ADMIN_HOSTS"] = "true", "ops.example.com"
	asked := served(t, vars, "jobs")
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"} {
		if status, _ := get(t, plain+path); status != 404 {
			t.Errorf("%s is there without being asked for: %d", path, status)
		}
		if status, _ := get(t, asked+path); status != 200 {
			t.Errorf("%s was asked for and is %d", path, status)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/heap"} {
		if status, body := get(t, asked+path, "rebind.example"); status != http.StatusMisdirectedRequest || strings.Contains(body, "krib_") {
			t.Errorf("%s for another's name is %d", path, status)
		}
		if status, _ := get(t, asked+path, "ops.example.com:9090"); status != 200 {
			t.Errorf("%s for a name that was given is %d", path, status)
		}
	}
}
