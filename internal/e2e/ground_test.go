//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// krib is a running program as its dev.json describes it.
type krib struct {
	APIURL       string   `json:"api_url"`
	AdminURL     string   `json:"admin_url"`
	DashboardURL string   `json:"dashboard_url"`
	APIKey       string   `json:"api_key"`
	HostID       string   `json:"host_id"`
	HostToken    string   `json:"host_token"`
	PropertyID   string   `json:"property_id"`
	KafkaBrokers []string `json:"kafka_brokers"`
	DatabaseURL  string   `json:"database_url"`
	ReceiverURL  string   `json:"receiver_url"`

	dir  string
	stop func() // asks it to stop and waits
	kill func() // SIGKILL; nil in-process
}

// devArgs put every listener on a port of the kernel's choice. Most tests have one host,
// which does more than a host of that installation could.
func devArgs(dir string) []string {
	return []string{
		"dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--kafka-addr", "127.0.0.1:0",
		"--receiver-addr", "127.0.0.1:0", "--host-read-rate", "100000", "--host-read-burst", "100000", "--host-write-rate", "100000", "--host-write-burst", "100000",
	}
}

// kafkaEnv puts the program on the Kafka that the tests were given, if any: the
// program brings its own otherwise.
func kafkaEnv(t *testing.T) []string {
	t.Helper()
	if !testenv.RealKafka() {
		return nil
	}
	return []string{"KRIB_KAFKA_BROKERS=" + strings.Join(testenv.Brokers(t), ",")}
}

// startHere runs the program in this process. It has a database of its own in the
// test's cluster and, unless the tests were given a Kafka, its own broker. env is
// name=value.
func startHere(t *testing.T, env ...string) *krib {
	t.Helper()
	vars := map[string]string{"DATABASE_URL": testenv.Database(t), "LOG_LEVEL": "warn"}
	if !slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "KRIB_KAFKA_BROKERS=") }) {
		env = append(kafkaEnv(t), env...)
	}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars[k] = v
	}
	lookup := func(k string) (string, bool) {
		v, ok := vars[k]
		return v, ok
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan int, 1)
	go func() { done <- app.Run(ctx, devArgs(dir), lookup, io.Discard, logWriter{t}) }()
	k := &krib{dir: dir}
	k.stop = sync.OnceFunc(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("krib ended with %d", code)
		}
	})
	t.Cleanup(k.stop)
	k.await(t, func() bool {
		select {
		case code := <-done:
			t.Fatalf("krib ended with %d before it was ready", code)
			return true
		default:
			return false
		}
	})
	return k
}

// logWriter brings the program's log into the test's.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	defer func() { _ = recover() }() // a line after the test's end
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// await waits for dev.json and reads it.
func (k *krib) await(t *testing.T, ended func() bool) {
	t.Helper()
	path := filepath.Join(k.dir, "dev.json")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(2 * time.Minute)
	for {
		if b, err := os.ReadFile(path); err == nil {
			if err := json.Unmarshal(b, k); err != nil {
				t.Fatalf("dev.json: %v", err)
			}
			k.keepsItsContract(t)
			return
		}
		if ended() {
			t.Fatal("krib ended before it was ready")
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("krib was not ready within two minutes")
		}
	}
}

// keepsItsContract fails the test, at its end, when an answer of this program was
// not what the document says.
func (k *krib) keepsItsContract(t *testing.T) {
	t.Helper()
	url := k.APIURL
	t.Cleanup(func() {
		for _, b := range breaches.of(url) {
			t.Error(b)
		}
	})
}

var buildBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "krib-e2e")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "krib")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/krib-ai/krib").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building krib: %w\n%s", err, out)
	}
	return bin, nil
})

func binary(t *testing.T) string {
	t.Helper()
	bin, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// startBinary runs the built program on dir and waits until it is ready.
func startBinary(t *testing.T, dir string, env ...string) *krib {
	t.Helper()
	return startBinaryWith(t, dir, devArgs(dir), env...)
}

func startBinaryWith(t *testing.T, dir string, args []string, env ...string) *krib {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = append(os.Environ(), append([]string{"LOG_LEVEL=warn", "KRIB_KAFKA_BROKERS="}, env...)...)
	log := &testenv.Output{}
	cmd.Stderr, cmd.Stdout = log, io.Discard
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of krib (%d):\n%s", cmd.Process.Pid, log)
		}
	})
	if err := os.RemoveAll(filepath.Join(dir, "dev.json")); err != nil { // a killed run's
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var state error
	go func() {
		state = cmd.Wait()
		close(ended)
	}()
	k := &krib{dir: dir}
	end := func(sig syscall.Signal) {
		_ = cmd.Process.Signal(sig)
		<-ended
	}
	k.kill = sync.OnceFunc(func() { end(syscall.SIGKILL) })
	k.stop = sync.OnceFunc(func() {
		end(syscall.SIGINT)
		if state != nil {
			t.Errorf("krib ended with %v\n%s", state, log.String())
		}
	})
	t.Cleanup(k.kill)
	k.await(t, func() bool {
		select {
		case <-ended:
			t.Fatalf("krib ended with %v before it was ready\n%s", state, log.String())
			return true
		default:
			return false
		}
	})
	return k
}

// stopPostgres ends the server that a killed run left behind.
func stopPostgres(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		return // it has ended
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err == nil {
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
}

// requests gives up long after the slowest answer, the test endpoint's; a stream
// has its context alone. What they are answered is held to the OpenAPI document.
var (
	requests = &http.Client{Timeout: time.Minute, Transport: held}
	streams  = &http.Client{Transport: held}
	held     = contract().Through(http.DefaultTransport, breaches.add)
	breaches breachLog
)

func contract() *testenv.Contract {
	raw, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		panic(err) // there is no test yet
	}
	c, err := testenv.NewContract(raw)
	if err != nil {
		panic(err)
	}
	return c
}

// A breachLog keeps what answers have broken until the test of their program
// ends.
type breachLog struct {
	mu     sync.Mutex
	byHost map[string][]error
}

func (l *breachLog) add(req *http.Request, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byHost == nil {
		l.byHost = map[string][]error{}
	}
	l.byHost[req.URL.Host] = append(l.byHost[req.URL.Host], err)
}

// of takes what was broken at a URL's host.
func (l *breachLog) of(url string) []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	host := strings.TrimPrefix(url, "http://")
	out := l.byHost[host]
	delete(l.byHost, host)
	return out
}

// An answer is a decoded response.
type answer struct {
	Status int
	Header http.Header
	Raw    []byte
	Body   map[string]any
}

// data walks into the envelope's data by member names.
func (a *answer) data(path ...string) any {
	v := a.Body["data"]
	for _, p := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func (a *answer) text(path ...string) string {
	s, _ := a.data(path...).(string)
	return s
}

func (a *answer) number(path ...string) float64 {
	n, _ := a.data(path...).(float64)
	return n
}

// try sends a request; an error is one of the connection.
func (k *krib) try(ctx context.Context, method, path, token string, body any) (*answer, error) {
	return k.tryOnce(ctx, method, path, token, "", body)
}

// tryOnce is try with an Idempotency-Key.
func (k *krib) tryOnce(ctx context.Context, method, path, token, key string, body any) (*answer, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.APIURL+path, r)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := requests.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	a := &answer{Status: res.StatusCode, Header: res.Header}
	if a.Raw, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	_ = json.Unmarshal(a.Raw, &a.Body) // not every answer is JSON
	return a, nil
}

// agent calls as the seed's agent, host as the seed's host; both demand 200.
func (k *krib) agent(t *testing.T, method, path string, body any) *answer {
	t.Helper()
	return k.must(t, method, path, k.APIKey, body)
}

func (k *krib) host(t *testing.T, method, path string, body any) *answer {
	t.Helper()
	return k.must(t, method, path, k.HostToken, body)
}

func (k *krib) must(t *testing.T, method, path, token string, body any) *answer {
	t.Helper()
	a, err := k.try(t.Context(), method, path, token, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.Status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, a.Status, a.Raw)
	}
	return a
}

type object = map[string]any

// subscribe registers a URL and returns the subscription's id and secret.
func (k *krib) subscribe(t *testing.T, url string, events ...string) (id, secret string) {
	t.Helper()
	a := k.agent(t, "POST", "/api/v1/external/webhook-subscriptions", object{
		"agent_name": "Test agent", "webhook_url": url, "events": events, "api_key": "agents-own-key",
	})
	return a.text("id"), a.text("signing_secret")
}

// stay is a booking of two nights, n weeks from now; stays of different n never
// overlap.
func (k *krib) stay(n int) object {
	in := time.Now().AddDate(0, 0, 7+3*n)
	return object{
		"property_id": k.PropertyID, "check_in": in.Format(time.DateOnly), "check_out": in.AddDate(0, 0, 2).Format(time.DateOnly), "guests": 2,
		"guest_info":   object{"first_name": "Test", "last_name": "User", "email": fmt.Sprintf("guest%d@example.com", n), "phone": "501234567"},
		"total_amount": 950.0,
	}
}

func (k *krib) book(t *testing.T, n int) string {
	t.Helper()
	id := k.agent(t, "POST", "/api/v1/bookings", k.stay(n)).text("booking_id")
	if id == "" {
		t.Fatal("no booking_id")
	}
	return id
}
