package docs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
)

// installed runs krib with the settings and returns what it printed.
func installed(t *testing.T, vars map[string]string, args ...string) string {
	t.Helper()
	var out, log bytes.Buffer
	if code := app.Run(t.Context(), args, lookup(vars), &out, &log); code != 0 {
		t.Fatalf("krib %s ended with %d: %s%s", strings.Join(args, " "), code, &out, &log)
	}
	return out.String()
}

func lookup(vars map[string]string) app.Lookup {
	return func(k string) (string, bool) { v, ok := vars[k]; return v, ok }
}

// secured is a cluster that lets nobody do anything, but those to whom the document's
// lines have given it.
func secured(t *testing.T) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "secret"),
		kfake.User("PLAIN", "krib-operator", "secret"), kfake.User("PLAIN", "krib", "secret"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	admin, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), as("admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	given := 0
	for _, b := range blocks(t, "KAFKA.md") {
		for line := range strings.Lines(b.text) {
			grant(t, kadm.NewClient(admin), line)
			given++
		}
	}
	if given != 7 {
		t.Fatalf("the document has %d lines", given)
	}
	return strings.Join(c.ListenAddrs(), ",")
}

// drift changes what apply may repair.
func drift(t *testing.T, brokers string) {
	t.Helper()
	admin, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), as("admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	rs, err := kadm.NewClient(admin).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "retention.ms", Value: new("60000")}}, string(schemas.PoisonRecords))
	if err != nil || rs[0].Err != nil {
		t.Fatal(err, rs)
	}
}

var servesAt = regexp.MustCompile(`msg=ready .*\bapi=(?:http://)?(\S+)`)

// What the document gives to two principals is enough for everything, from the topics
// to a webhook and a host's inbox.
func TestTheDocumentedACLsAreEnoughForKrib(t *testing.T) {
	t.Parallel()
	brokers, database := secured(t), testenv.Database(t)
	user := func(name string) map[string]string {
		return map[string]string{"KRIB_KAFKA_BROKERS": brokers, "KRIB_KAFKA_SASL": "plain", "KRIB_KAFKA_USER": name, "KRIB_KAFKA_PASSWORD": "secret", "DATABASE_URL": database}
	}
	installed(t, user("krib-operator"), "migrate")
	installed(t, user("krib-operator"), "topics", "apply")
	drift(t, brokers)
	installed(t, user("krib-operator"), "topics", "apply")
	installed(t, user("krib-operator"), "topics", "diff")

	vars := user("krib")
	maps.Copy(vars, map[string]string{
		"WEBHOOK_SECRET_KEY": "a secret of this test", "KRIB_JWT_SECRET": "another secret of this test, long enough", "LOG_LEVEL": "info",
		"KRIB_WEBHOOK_ALLOW_CIDRS": "127.0.0.0/8", "KRIB_WEBHOOK_ALLOW_HTTP": "true",
	})
	log := &testenv.Output{}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	go func() {
		ended <- app.Run(ctx, []string{"serve", "--roles", "all", "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"}, lookup(vars), io.Discard, log)
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("krib ended with %d", code)
		}
		if t.Failed() {
			t.Logf("its log:\n%s", log)
		}
	})
	testenv.Eventually(t, "krib is ready", func() bool { return servesAt.MatchString(log.String()) })
	p := &program{t: t, APIURL: "http://" + servesAt.FindStringSubmatch(log.String())[1]}
	key := installed(t, vars, "keys", "create", "--scopes", "admin,bookings:read,bookings:write,webhooks:manage,events:read,notifications:write", "--agent-name", "Agent", "--platform", "--name", "test")
	p.APIKey = regexp.MustCompile(`krib_\S+`).FindString(key)

	host := home(t, database, p)
	to := testenv.Receiver(t, nil)
	subscription := p.call(http.MethodPost, "/api/v1/external/webhook-subscriptions", map[string]any{
		"agent_name": "Agent", "webhook_url": to.URL(), "events": []string{"booking.created"}, "api_key": "a key of the test",
	})["id"].(string)
	booking := p.book()
	if got := to.Next(t); !strings.Contains(string(got.Body), booking) {
		t.Errorf("the webhook is %s", got.Body)
	}
	token, err := auth.SignHostToken([]byte(vars["KRIB_JWT_SECRET"]), host, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the host has heard of it", func() bool {
		_, inbox := p.send(http.MethodGet, "/api/v1/hosts/"+string(host)+"/notifications", token, nil)
		return strings.Contains(fmt.Sprint(inbox), booking)
	})
	testenv.Eventually(t, "the attempt is in the log", func() bool {
		log := p.call(http.MethodGet, "/api/v1/external/webhook-subscriptions/"+subscription+"/deliveries", nil)
		return strings.Contains(fmt.Sprint(log), booking)
	})
	past := p.call(http.MethodGet, "/api/v1/external/events?since="+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), nil)
	if !strings.Contains(fmt.Sprint(past), booking) {
		t.Errorf("the agent's events are %v", past)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "AUTHORIZATION") {
			t.Errorf("something is not allowed: %s", line)
		}
	}
}

// home gives the installation a host with a home to book.
func home(t *testing.T, database string, p *program) schemas.HostID {
	t.Helper()
	db, err := store.Open(t.Context(), database, store.RoleJobs, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := store.Seed{
		AgentID: schemas.NewAgentID(), KeyID: schemas.NewKeyID(), KeyHash: schemas.HashAPIKey("krib_nobody"), Prefix: "krib_nobody", Scopes: []string{}, HostID: schemas.NewHostID(),
		Property: store.Property{
			ID: schemas.NewPropertyID(), Title: "A home", City: "Dubai", Type: "apartment", MaxGuests: 4, Currency: "AED",
			PricePerNight: 42500, CleaningFee: 4450, ServiceFeeBP: 300, TaxPerNight: 1500, TimeZone: "Asia/Dubai",
		},
	}
	if err := db.Update(t.Context(), store.Scope{}, func(ctx context.Context, tx *store.Tx) error { return tx.PlantSeed(ctx, s) }); err != nil {
		t.Fatal(err)
	}
	p.PropertyID = string(s.Property.ID)
	return s.HostID
}
