package webhook_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/webhook"
)

// Each prints its port and answers with the request's target, as it came.
const (
	nodeReceiver = `const s = require("http").createServer((q, r) => { q.resume(); q.on("end", () => { new URL(q.url, "http://x"); r.setHeader("target", q.url); r.end(); }); });
s.listen(0, "127.0.0.1", () => console.log(s.address().port));`
	pythonReceiver = `
import http.server, urllib.parse
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query, strict_parsing=False)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("target", self.path); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *a): pass
s = http.server.HTTPServer(("127.0.0.1", 0), H)
print(s.server_address[1], flush=True)
s.serve_forever()`
)

// program starts a receiver of another language and returns its address.
func program(t *testing.T, name, flag, source string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
	cmd := exec.CommandContext(t.Context(), name, flag, source)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strings.TrimSpace(port))
}

// Servers refuse with 400 what is no request target: a raw space, a raw ö.
func TestReceiversOfThreeLanguagesTakeTheFormThatIsSent(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) string{
		"Go": func(t *testing.T) string {
			t.Helper()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("target", r.RequestURI)
			}))
			t.Cleanup(s.Close)
			return s.Listener.Addr().String()
		},
		"Node":   func(t *testing.T) string { t.Helper(); return program(t, "node", "-e", nodeReceiver) },
		"Python": func(t *testing.T) string { t.Helper(); return program(t, "python3", "-c", pythonReceiver) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := start(t)
			for _, rest := range []string{
				"?name=a b", "?name=köln", "/hook?q=東京 {x}|^`\"<>'\\", "/straße a/[1]/{id}|x?a[]=1&b=c;d", "/a/../b/./%2e%2e/c?x=a+b%20c&u=https://x.example/?y",
				"/\u200bx?\u00a0=\U0001F600", "?100%&x=%zz", "//a//?", "/*'()!$&,;=:@~",
			} {
				u, err := webhook.StoredURL("http://" + address + rest)
				if err != nil {
					t.Errorf("%q: %v", rest, err)
					continue
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, u.String(), strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				res, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatalf("%q: %v", rest, err)
				}
				_ = res.Body.Close()
				// Python joins slashes at the start, against a hole of its own.
				if got := res.Header.Get("target"); res.StatusCode != http.StatusOK || strings.TrimLeft(got, "/") != strings.TrimLeft(u.RequestURI(), "/") {
					t.Errorf("%q was answered %d and came as %q, want %q", rest, res.StatusCode, got, u.RequestURI())
				}
			}
		})
	}
}
