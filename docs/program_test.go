package docs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A program is what `make run` starts, in this process and on ports of the kernel's
// choice. Its data folder is .krib of dir, as at home.
type program struct {
	t    *testing.T
	dir  string
	stop func() // as Ctrl-C; waits for the end

	APIURL       string   `json:"api_url"`
	APIKey       string   `json:"api_key"`
	HostID       string   `json:"host_id"`
	HostToken    string   `json:"host_token"`
	PropertyID   string   `json:"property_id"`
	ReceiverURL  string   `json:"receiver_url"`
	KafkaBrokers []string `json:"kafka_brokers"`
	DatabaseURL  string   `json:"database_url"`

	stays int // that were booked
}

// run starts it in a folder of its own, with a database of the test's server.
func run(t *testing.T, env map[string]string) *program {
	t.Helper()
	vars := map[string]string{"DATABASE_URL": testenv.Database(t)}
	maps.Copy(vars, env)
	return start(t, t.TempDir(), vars)
}

// start starts it in a folder that may have been used before, with these variables
// and more flags, and waits until it is ready.
func start(t *testing.T, dir string, env map[string]string, flags ...string) *program {
	t.Helper()
	p := &program{t: t, dir: dir}
	vars := map[string]string{"LOG_LEVEL": "error"}
	maps.Copy(vars, env)
	args := append([]string{
		"dev", "--data-dir", filepath.Join(dir, ".krib"), "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0",
		"--kafka-addr", "127.0.0.1:0", "--receiver-addr", "127.0.0.1:0",
	}, flags...)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		ended <- app.Run(ctx, args, func(k string) (string, bool) { v, ok := vars[k]; return v, ok }, io.Discard, &log)
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != 0 {
			t.Errorf("krib ended with %d: %s", code, &log)
		}
	})
	t.Cleanup(p.stop)
	testenv.Eventually(t, "krib is ready", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, ".krib", "dev.json"))
		return err == nil && json.Unmarshal(b, p) == nil
	})
	return p
}

// requests give up long after the slowest answer.
var requests = &http.Client{Timeout: time.Minute}

// call sends a request with the key and returns the data of its answer.
func (p *program) call(method, path string, body any) map[string]any {
	p.t.Helper()
	status, doc := p.send(method, path, p.APIKey, body)
	data, ok := doc["data"].(map[string]any)
	if status != http.StatusOK || !ok {
		p.t.Fatalf("%s %s: %d %v", method, path, status, doc)
	}
	return data
}

func (p *program) send(method, path, key string, body any) (int, map[string]any) {
	p.t.Helper()
	in, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.APIURL+path, bytes.NewReader(in))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := requests.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var doc map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, doc
}

// book books two nights that nobody has, and makes two events.
func (p *program) book() string {
	p.t.Helper()
	p.stays++
	day := func(n int) string { return time.Now().AddDate(0, 0, 10+3*p.stays+n).Format(time.DateOnly) }
	return p.call(http.MethodPost, "/api/v1/bookings", map[string]any{
		"property_id": p.PropertyID, "check_in": day(0), "check_out": day(2), "guests": 2, "total_amount": 950,
		"guest_info": map[string]any{"first_name": "Amira", "last_name": "Haddad", "email": "amira@example.com", "phone": "501234567"},
	})["booking_id"].(string)
}

// events are the ids of all that came behind a cursor, in their order.
func (p *program) events(after string) (ids []string) {
	p.t.Helper()
	for {
		page := p.call(http.MethodGet, "/api/v1/external/events?after="+after, nil)
		for _, e := range page["events"].([]any) {
			ids = append(ids, e.(map[string]any)["id"].(string))
		}
		if page["has_more"] != true {
			return ids
		}
		after = page["next_cursor"].(string)
	}
}

// subscribe registers a URL for these events and returns the subscription's id.
func (p *program) subscribe(url string, events ...string) string {
	p.t.Helper()
	return p.call(http.MethodPost, "/api/v1/external/webhook-subscriptions", map[string]any{
		"agent_name": "My agent", "webhook_url": url, "events": events, "api_key": "a secret of my receiver",
	})["id"].(string)
}

// logged is how many deliveries or attempts of a subscription the log has that pass
// a filter.
func (p *program) logged(subscription, what string) int {
	p.t.Helper()
	return int(p.call(http.MethodGet, "/api/v1/external/webhook-subscriptions/"+subscription+"/"+what, nil)["returned_count"].(float64))
}
