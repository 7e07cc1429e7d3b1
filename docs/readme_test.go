package docs_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

const readme = "../README.md"

func TestEveryBlockOfTheReadmeIsTested(t *testing.T) {
	t.Parallel()
	tested := []string{"make targets", "shell subscribe", "shell book", "shell host", "run svix.go", "lines pull", "lines keys", "lines production"}
	for _, b := range blocks(t, readme) {
		if !slices.Contains(tested, b.use+" "+b.name) {
			t.Errorf("no test is for a block of %s with the use %q: %.80s", b.language, b.use+" "+b.name, b.text)
		}
	}
}

// linesOf are a block's lines without their remarks.
func linesOf(t *testing.T, name string) (lines, remarks []string) {
	t.Helper()
	for line := range strings.Lines(named(t, readme, name).text) {
		line, remark, _ := strings.Cut(line, " # ")
		lines, remarks = append(lines, strings.TrimSpace(line)), append(remarks, remark)
	}
	return lines, remarks
}

func TestTheReadmeNamesWhatCanBeMade(t *testing.T) {
	t.Parallel()
	lines, _ := linesOf(t, "targets")
	for _, line := range lines {
		target, ok := strings.CutPrefix(line, "make ")
		if !ok || !strings.Contains(read(t, "../Makefile"), "\n"+target+":") {
			t.Errorf("%q is not to be made", line)
		}
	}
}

// at puts the program's address in the place of the one that make run has.
func (p *program) at(line string) string {
	const home = "127.0.0.1:8080"
	if !strings.Contains(line, home) {
		p.t.Fatalf("%q calls nobody", line)
	}
	return strings.ReplaceAll(line, home, strings.TrimPrefix(p.APIURL, "http://"))
}

// steps are the commands of a document, in their order.
func steps(t *testing.T, document string) (found []block) {
	t.Helper()
	for _, b := range blocks(t, document) {
		if b.use == "shell" {
			found = append(found, b)
		}
	}
	return found
}

// The README, then the entry for developers, in one folder and one shell, from the
// first line to the last; then all of it again; and again after a restart, whose
// receiver has forgotten what it got. The second time with a date as macOS has it.
func TestTheFirstHourIsOnePathThatCanBeRepeated(t *testing.T) {
	t.Parallel()
	dir, env := t.TempDir(), map[string]string{"DATABASE_URL": testenv.Database(t)}
	shows := map[string][]string{
		"subscribe": {`"success":true`}, "book": {`"event": "booking.created"`, `"verified": true`},
		"host": {`"success":true`, "/dashboard/#host=", `"new_status":"cancelled"`, `"event": "booking.cancelled"`},
	}
	for round, path := range []string{os.Getenv("PATH"), dateOfMacOS(t) + ":" + os.Getenv("PATH"), os.Getenv("PATH")} {
		p := start(t, dir, env)
		for range 2 {
			sh := newShell(t, dir, []string{"PATH=" + path, "HOME=" + t.TempDir()})
			for _, b := range append(steps(t, readme), steps(t, agents)...) {
				out := sh.run(b)
				want := shown[b.name]
				if strings.Contains(read(t, readme), b.text) {
					want = shows[b.name]
				}
				for _, w := range want {
					if !strings.Contains(out, w) {
						t.Errorf("round %d: %s does not show %s: %s", round, b.name, w, out)
					}
				}
			}
		}
		p.stop()
		for _, file := range []string{"env.sh", "dev.json"} {
			if _, err := os.Stat(filepath.Join(dir, ".krib", file)); err == nil {
				t.Errorf("%s is there after the stop", file)
			}
		}
	}
}

// dateOfMacOS is a folder with a date that takes -v and not -d, as BSD's does.
func dateOfMacOS(t *testing.T) string {
	t.Helper()
	real, err := exec.LookPath("date")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := `#!/usr/bin/env bash
args=()
while [ $# -gt 0 ]; do
  case $1 in
  -d) echo "date: illegal option -- d" >&2; exit 1 ;;
  -v) n=${2#[+-]}; unit=days; case $n in *H) unit=hours ;; *d) ;; *) exit 1 ;; esac
      args+=(-d "${2%"$n"}${n%?} $unit"); shift ;;
  *) args+=("$1") ;;
  esac
  shift
done
exec ` + real + ` "${args[@]}"
`
	if err := os.WriteFile(filepath.Join(dir, "date"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is refused is printed and fails, whatever the answer is piped into.
func TestAStepThatIsRefusedFailsAndShowsWhy(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	for script, says := range map[string]string{
		`X=$(call "$API/api/v1/external/webhook-subscriptions" -d '{"agent_name": "x"}' | member id)`: `"code":"invalid_request"`,
		`call "$API/api/v1/external/bookings/none/status"`:                                            `"code":"booking_not_found"`,
		`KEY=krib_dev_00000000000000000000000000000000; free_nights`:                                  `"code":"`,
		`as_host "$API/api/v1/hosts/another/notifications"`:                                           `"code":"`,
		`echo '{}' | member booking_id`:                                                               "there is no booking_id",
		`RECEIVER=http://127.0.0.1:1; webhook b e`:                                                    "curl:",
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", "set -euo pipefail; . .krib/env.sh; "+script)
		cmd.Dir = p.dir
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%s: %v, %s", script, err, out)
		}
	}
}

// The banner has the README's steps, word for word, and subscribing is the same in all
// three.
func TestTheBannerIsTheReadmesPath(t *testing.T) {
	t.Parallel()
	banner := read(t, "../app/banner.go")
	for _, b := range steps(t, readme) {
		if text := strings.TrimPrefix(b.text, ". .krib/env.sh\n"); !strings.Contains(banner, "\n"+text) {
			t.Errorf("the banner does not have %s", b.text)
		}
	}
	_, call, _ := strings.Cut(named(t, readme, "subscribe").text, "\n")
	if !strings.Contains(named(t, agents, "subscribe").text, strings.TrimSpace(call)) {
		t.Errorf("%s subscribes in another way than the README", agents)
	}
	if n := strings.Count(read(t, readme), "\n"); n > 160 {
		t.Errorf("the README has %d lines", n)
	}
}

func TestTheReadmesEventsAreFetched(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	begin := p.call(http.MethodGet, "/api/v1/external/events", nil)["next_cursor"].(string)
	first := p.book()
	testenv.Eventually(t, "its events are in the log", func() bool { return len(p.events(begin)) == 2 })
	lines, _ := linesOf(t, "pull")
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	command := func(line string) *exec.Cmd {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+p.at(line))
		cmd.Env = append(os.Environ(), "KEY="+p.APIKey)
		return cmd
	}
	var page struct {
		Data struct {
			NextCursor string `json:"next_cursor"`
		}
	}
	out, err := command(lines[0]).Output()
	if err != nil || strings.Count(string(out), first) < 2 {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal(out, &page); err != nil || page.Data.NextCursor == "" {
		t.Fatalf("%v: %s", err, out)
	}

	second := p.book()
	testenv.Eventually(t, "the next one's events are in the log", func() bool { return len(p.events(begin)) == 4 })
	poll := func() *exec.Cmd { return command(strings.Replace(lines[1], "CURSOR", page.Data.NextCursor, 1)) }
	if out, err = poll().Output(); err != nil || !strings.Contains(string(out), second) || strings.Contains(string(out), first) {
		t.Errorf("behind the cursor is %s, %v", out, err)
	}
	if err := json.Unmarshal(out, &page); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	asked := p.behindADoor()
	polled, waiting := make(chan string, 1), poll()
	go func() {
		out, _ := waiting.Output() // what it says is looked at
		polled <- string(out)
	}()
	<-asked
	third := p.book()
	if out := <-polled; !strings.Contains(out, third) || strings.Contains(out, second) {
		t.Errorf("behind the next cursor is %s", out)
	}

	follow := command(lines[2])
	pipe, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	defer follow.Wait()
	defer follow.Process.Kill()
	fourth := ""
	for stream := bufio.NewScanner(pipe); ; {
		switch {
		case !stream.Scan():
			t.Fatal("the stream ended without the booking")
		case stream.Text() == "event: connected" && fourth == "":
			fourth = p.book()
		case fourth != "" && strings.Contains(stream.Text(), fourth):
			return
		}
	}
}

// behindADoor has the program's address be that of a proxy, which tells of the next
// request through it.
func (p *program) behindADoor() (asked <-chan struct{}) {
	p.t.Helper()
	api, err := url.Parse(p.APIURL)
	if err != nil {
		p.t.Fatal(err)
	}
	came := make(chan struct{})
	tell := sync.OnceFunc(func() { close(came) })
	direct := httputil.NewSingleHostReverseProxy(api)
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tell()
		direct.ServeHTTP(w, r)
	}))
	p.t.Cleanup(door.Close)
	p.APIURL = door.URL
	return came
}

// The keys, by the same commands without containers around them.
func TestTheReadmesKeysAreMade(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	lines, _ := linesOf(t, "keys")
	bin := build(t)
	var keys []string
	for _, line := range lines {
		inside, ok := strings.CutPrefix(line, "docker compose exec krib ")
		if !ok {
			t.Fatalf("%q is not for the container", line)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", inside)
		cmd.Env = withPath(bin, "DATABASE_URL="+p.DatabaseURL)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		keys = append(keys, regexp.MustCompile(`(?m)^krib_\w+$`).FindString(string(out)))
	}
	for i, want := range []int{http.StatusForbidden, http.StatusOK} {
		if status, doc := p.send(http.MethodGet, "/api/v1/admin/keys", keys[i], nil); status != want {
			t.Errorf("%s: the keys are answered with %d %v", lines[i], status, doc)
		}
		if status, doc := p.send(http.MethodGet, "/api/v1/external/webhook-subscriptions", keys[i], nil); status != http.StatusOK {
			t.Errorf("%s: its subscriptions are answered with %d %v", lines[i], status, doc)
		}
	}
}

// Each command of an installation needs the variables that stand beside it, and no
// others.
func TestTheReadmesInstallationStarts(t *testing.T) {
	t.Parallel()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	given := map[string]string{
		"DATABASE_URL": testenv.PostgresURL(t), "KRIB_KAFKA_BROKERS": strings.Join(testenv.Brokers(t), ","),
		"KRIB_MASTER_KEYS": "1:" + base64.StdEncoding.EncodeToString(key), "KRIB_JWT_SECRET": rand.Text() + rand.Text(),
	}
	bin := build(t)
	lines, remarks := linesOf(t, "production")
	for i, line := range lines {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+line)
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "KRIB_HTTP_ADDR=127.0.0.1:0", "KRIB_ADMIN_ADDR=127.0.0.1:0"}
		for _, name := range regexp.MustCompile(`[A-Z_]{5,}`).FindAllString(remarks[i], -1) {
			if given[name] != "" {
				cmd.Env = append(cmd.Env, name+"="+given[name])
			}
		}
		if i < len(lines)-1 {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
			continue
		}
		log, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for l := bufio.NewScanner(log); l.Scan(); said.WriteString(l.Text() + "\n") {
			if strings.Contains(l.Text(), "msg=ready ") {
				_ = cmd.Process.Signal(syscall.SIGINT) // it has not ended
			}
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), "msg=ready ") {
			t.Errorf("%s: %v\n%s", line, err, &said)
		}
	}
}

// The lines for Go, in a program of this module, which has the library.
func TestTheReadmesReceiverTakesWhatIsSignedAndNothingElse(t *testing.T) {
	t.Parallel()
	b := named(t, readme, "svix.go")
	file := filepath.Join(t.TempDir(), "main.go")
	text := "package main\n\nimport (\n\t\"encoding/json\"\n\t\"fmt\"\n\t\"net/http\"\n\t\"os\"\n\n\tsvix \"github.com/svix/svix-webhooks/go\"\n)\n" + `
func main() {
	var requests []struct {
		Headers   map[string]string
		Body, Key string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	for _, r := range requests {
		fmt.Println(status(r.Headers, []byte(r.Body), r.Key))
	}
}

func status(headers map[string]string, body []byte, secret string) int {
	request := &http.Request{Header: http.Header{}}
	for k, v := range headers {
		request.Header.Set(k, v)
	}
` + strings.Replace(b.text, "/* 401 */", "return 401", 1) + "\treturn 200\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := golden(t, "created")
	requests := casesOf("v1", sent(t, &e))
	in, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", file)
	cmd.Dir, cmd.Stdin = "..", strings.NewReader(string(in))
	out, err := cmd.Output()
	got := strings.Fields(string(out))
	if err != nil || len(got) != len(requests) {
		t.Fatalf("%v: %s\n%s", err, out, text)
	}
	for i, c := range requests {
		if (got[i] == "200") != c.ok {
			t.Errorf("%s: %s", c.name, got[i])
		}
	}
}
