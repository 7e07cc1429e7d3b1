//go:build e2e

package e2e

import (
	"bytes"
	"flag"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// variable is what differs from run to run; everything else is compared byte for
// byte.
var variable = []struct {
	what *regexp.Regexp
	is   string
}{
	{regexp.MustCompile(`(?m)^Date: .*\r$`), "Date: DATE\r"},
	{regexp.MustCompile(`(?m)^X-Request-Id: .*\r$`), "X-Request-Id: REQUEST\r"},
	{regexp.MustCompile(`(?m)^(Ratelimit-\w+): .*\r$`), "${1}: N\r"},
	{regexp.MustCompile(`[0-9a-f]{10,}-[0-9]+-[0-9]+`), "CURSOR"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b(evt|ntf|agt|host|prop)_[0-9a-f]{8,}`), "${1}_ID"},
	{regexp.MustCompile(`(?m)^retry: \d+$`), "retry: DELAY"},
	{regexp.MustCompile(`"retry_ms":\d+`), `"retry_ms":DELAY`},
}

// What curl prints of a fixed course of events, headers and all, from the first byte
// to the end of a server that stops: the golden file is what a client of plain lines
// relies on. -update writes it.
func TestCurlSeesTheStreamByteForByte(t *testing.T) {
	t.Parallel()
	k := startHere(t, "SSE_HEARTBEAT_INTERVAL=5m") // none
	inbox := "/api/v1/hosts/" + k.HostID + "/notifications"
	from := k.host(t, http.MethodGet, inbox, nil).text("stream_cursor")
	cmd := exec.CommandContext(t.Context(), "curl", "--noproxy", "*", "-sS", "-i", "-N", "-H", "Last-Event-ID: "+from,
		"-H", "@-", k.APIURL+"/api/v1/hosts/"+k.HostID+"/events")
	cmd.Stdin = strings.NewReader("Authorization: Bearer " + k.HostToken + "\n") // not where every process sees it
	out, said := &testenv.Output{}, &testenv.Output{}
	cmd.Stdout, cmd.Stderr = out, said
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (Debian: curl)", err)
	}
	await := func(what string) {
		t.Helper()
		testenv.Eventually(t, "curl prints "+what, func() bool { return strings.Contains(out.String(), what) })
	}
	await("event: connected")
	k.host(t, http.MethodPost, "/api/v1/hosts/"+k.HostID+"/events/send", object{"text": " a\r\nb\u2028<é>😀", "n": 1.50})
	await("event: custom")
	id := k.agent(t, http.MethodPost, inbox, object{
		"type": "guest_message", "title": "One line", "message": "data: no field\nid: none", "priority": "high",
	}).text("notification_id")
	await("event: notification\n")
	k.host(t, http.MethodPut, inbox+"/"+id+"/read", nil)
	await(`"action":"read"`)
	k.host(t, http.MethodPut, inbox+"/"+id+"/unread", nil)
	await(`"action":"unread"`)
	k.host(t, http.MethodPut, inbox+"/read-all", nil)
	await(`"action":"read_all"`)
	k.agent(t, http.MethodPost, "/api/v1/external/sse/broadcast", object{"text": "to all"})
	await("event: system_announcement")
	k.stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("curl ended with %v: %s", err, said)
	}

	got := []byte(out.String())
	for _, v := range variable {
		got = v.what.ReplaceAll(got, []byte(v.is))
	}
	golden := filepath.Join("testdata", "stream.golden")
	if *updateGolden {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("curl printed\n%s\nand not\n%s", got, want)
	}
}
