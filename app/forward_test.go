package app_test

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/krib-ai/krib/app"
)

// listenWith runs krib listen, which must end by itself, in an empty folder.
func listenWith(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, said bytes.Buffer
	lookup := func(k string) (string, bool) {
		if k == "KRIB_DATA_DIR" {
			return t.TempDir(), true
		}
		v, ok := env[k]
		return v, ok
	}
	code = app.Run(t.Context(), append([]string{"listen"}, args...), lookup, &out, &said)
	return code, out.String(), said.String()
}

func TestWhatIsWrongWithListenIsOneLine(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + closed.Addr().String()
	_ = closed.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	key := map[string]string{"KRIB_API_KEY": "krib_test_00000000000000000000000000000000"}
	for _, c := range []struct {
		env  map[string]string
		args []string
		code int
		part string
	}{
		{nil, nil, 2, "--forward-to URL, or --no-forward"},
		{nil, []string{"--no-forward", "--forward-to", "http://127.0.0.1:1"}, 2, "--forward-to URL, or --no-forward"},
		{nil, []string{"--no-forward"}, 2, "krib dev is not running"},
		{nil, []string{"--no-forward", "--api-url", nobody}, 2, "KRIB_API_KEY"},
		{key, []string{"--no-forward"}, 2, "--api-url"},
		{key, []string{"--no-forward", "--api-url", "127.0.0.1:8080"}, 2, "must be a URL"},
		{key, []string{"--forward-to", "localhost:3000"}, 2, "must be an absolute URL"},
		{key, []string{"--forward-to", "http://user:hunter2@localhost:3000"}, 2, "must not hold a user"},
		{key, []string{"--forward-to", "http://localhost:3000/a?x=5%"}, 2, "a % without"},
		{key, []string{"--forward-to", "http://localhost:3000/a#b"}, 2, "a fragment"},
		{key, []string{"--no-forward", "--events", "booking.eaten"}, 2, "booking.eaten"},
		{key, []string{"--no-forward", "--since", "yesterday"}, 2, "must be a time"},
		{map[string]string{"KRIB_API_KEY": key["KRIB_API_KEY"], "KRIB_SIGNING_SECRET": "whsec_short"}, []string{"--no-forward"}, 2, "KRIB_SIGNING_SECRET"},
		{key, []string{"--no-forward", "more"}, 2, "arguments too many"},
		{key, []string{"--no-forward", "--api-url", nobody}, 1, "connection refused"},
		{key, []string{"--no-forward", "--api-url", other.URL}, 1, "not Krib's API"},
	} {
		code, out, said := listenWith(t, c.env, c.args...)
		if code != c.code || out != "" || !strings.Contains(said, c.part) {
			t.Errorf("%v: ended with %d and said %q, want %d and %q", c.args, code, said, c.code, c.part)
		}
		if strings.Count(strings.TrimSpace(said), "\n") != 0 {
			t.Errorf("%v: not one line: %q", c.args, said)
		}
		if strings.Contains(said, "hunter2") || strings.Contains(said, key["KRIB_API_KEY"]) {
			t.Errorf("%v: a secret is shown: %q", c.args, said)
		}
	}
}
