package docs_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/sse/conformance"
)

const stream = "STREAM.md"

// The commands that open a host's stream where the list was true.
func TestTheDocumentedCommandsOpenAHostsStream(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", named(t, stream, "stream").text)
	cmd.Env = append(os.Environ(), "API="+p.APIURL, "HOST="+p.HostID, "TOKEN="+p.HostToken)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	for lines, booked := bufio.NewScanner(out), false; ; {
		if !lines.Scan() {
			t.Fatal("the stream ended without the booking's notification")
		}
		switch {
		case lines.Text() == "event: connected" && !booked:
			booked = true
			p.book()
		case lines.Text() == "event: notification":
			return
		}
	}
}

// The command that checks a server, from the repository's root, on a host's stream.
func TestTheDocumentedCommandChecksAStream(t *testing.T) {
	t.Parallel()
	p := run(t, map[string]string{"SSE_HEARTBEAT_INTERVAL": "200ms"})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // it is compiled, on a busy machine
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", named(t, stream, "conformance").text)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "URL="+p.APIURL+"/api/v1/hosts/"+p.HostID+"/events", "TOKEN="+p.HostToken)
	var (
		out   []byte
		err   error
		ended = make(chan struct{})
	)
	go func() {
		out, err = cmd.CombinedOutput()
		close(ended)
	}()
	for again := time.NewTicker(50 * time.Millisecond); ; {
		select {
		case <-ended:
			again.Stop()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			checked(t, string(out))
			return
		case <-again.C:
			if status, doc := p.send(http.MethodPost, "/api/v1/external/sse/broadcast", p.APIKey, map[string]any{"text": "it happens"}); status != http.StatusOK {
				t.Fatalf("%d %v", status, doc)
			}
		}
	}
}

// unchecked are the items that the command says too little for, or only a program
// could say more.
var unchecked = []string{
	"https is served over HTTP/2 too, without headers of the connection",
	"a page of the origin may read the answer, with credentials or without",
	"a page of the origin may send Last-Event-ID after a preflight",
	"line ends and spaces of what is published survive",
	"a client that leaves is let go",
	"it ends between two events, and cleanly",
}

func checked(t *testing.T, out string) {
	t.Helper()
	for _, item := range conformance.Items() {
		want := "--- PASS: "
		if slices.Contains(unchecked, item.Name) {
			want = "--- SKIP: "
		}
		if want += "TestTheServerConforms/" + strings.ReplaceAll(item.Name, " ", "_") + " "; !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}
