package docs_test

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
)

// readers put a reader of the document into a program that takes a URL, a key and a
// cursor, and prints a line for each event and for each cursor that it may store:
// what stands before a cursor's line is done with it.
var readers = map[string]map[string]string{
	"poll.go": {"go.mod": "module reader\n\ngo 1.26\n", "main.go": `package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"reader/events"
)

func main() {
	err := events.Poll(context.Background(), os.Args[1], os.Args[2], os.Args[3], func(p events.Page) error {
		for _, raw := range p.Events {
			var e struct{ ID, Type string }
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			fmt.Println("event", e.Type, e.ID)
		}
		fmt.Println("cursor", p.Next)
		return nil
	})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
`},
	"follow.go": {"go.mod": "module reader\n\ngo 1.26\n", "main.go": `package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"reader/events"
)

func main() {
	err := events.Follow(context.Background(), os.Args[1], os.Args[2], os.Args[3], func(event string, data []byte, cursor string) error {
		var e struct{ ID string }
		if err := json.Unmarshal(data, &e); err != nil {
			return err
		}
		fmt.Println("event", event, e.ID)
		fmt.Println("cursor", cursor)
		return nil
	})
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
`},
	"poll.py": {"main.py": `import sys
from poll import poll

def handle(events, cursor):
    for e in events:
        print("event", e["type"], e["id"])
    print("cursor", cursor, flush=True)

poll(*sys.argv[1:], handle)
`},
	"follow.py": {"main.py": `import sys
from follow import follow

def handle(event, data, cursor):
    print("event", event, data.get("id", ""))
    print("cursor", cursor, flush=True)

follow(*sys.argv[1:], handle)
`},
	"poll.mjs": {"main.mjs": `import { poll } from "./poll.mjs";
await poll(...process.argv.slice(2), (events, cursor) => {
  for (const e of events) console.log("event", e.type, e.id);
  console.log("cursor", cursor);
});
`},
	"follow.mjs": {"main.mjs": `import { follow } from "./follow.mjs";
await follow(...process.argv.slice(2), (event, data, cursor) => {
  console.log("event", event, data.id ?? "");
  console.log("cursor", cursor);
});
`},
}

// prepare writes a reader's program, builds it if it has to be, and returns its
// command and folder.
func prepare(t *testing.T, b block) (command []string, dir string) {
	t.Helper()
	dir = t.TempDir()
	name := b.name
	if b.language == "go" {
		name = filepath.Join("events", name)
	}
	write(t, filepath.Join(dir, name), b.text)
	for name, text := range readers[b.name] {
		write(t, filepath.Join(dir, name), text)
	}
	switch b.language {
	case "go":
		build := exec.CommandContext(t.Context(), "go", "build", "-o", "reader", ".")
		build.Dir = dir
		build.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return []string{"./reader"}, dir
	case "python":
		return python("json")(t), dir
	}
	return node(t), dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A following is what readers have done, one after the other, as it was stored.
type following struct {
	cursor string
	kinds  []string
	ids    []string
}

// read runs a reader from the cursor on until enough, and kills it. What it printed
// without a cursor after it counts for nothing, as with a transaction.
func (f *following) read(t *testing.T, command []string, dir, url, key string, enough func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // then it is killed, and the test fails
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], append(slices.Clone(command[1:]), url, key, f.cursor)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var kinds, ids []string
	for lines := bufio.NewScanner(out); !enough(); {
		if !lines.Scan() {
			t.Fatalf("the reader ended: %s", complaints.String())
		}
		switch words := strings.Fields(lines.Text()); words[0] {
		case "event":
			kinds = append(kinds, words[1])
			ids = append(ids, words[2:]...)
		case "cursor":
			f.kinds, f.ids, f.cursor = append(f.kinds, kinds...), append(f.ids, ids...), words[1]
			kinds, ids = nil, nil
		}
	}
}

// Each reader of the document is killed in the middle and goes on where it was, and
// each event comes once.
func TestTheDocumentedReadersHaveEveryEventOnce(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	begin := p.call(http.MethodGet, "/api/v1/external/events", nil)["next_cursor"].(string)
	for range 4 {
		p.book()
	}
	testenv.Eventually(t, "the events are in the log", func() bool { return len(p.events(begin)) == 8 })
	for _, b := range blocks(t, "PULL.md") {
		t.Run(b.name, func(t *testing.T) {
			command, dir := prepare(t, b)
			url := p.APIURL
			if strings.HasPrefix(b.name, "follow") {
				url += "/api/v1/external/events/stream"
			}
			f := following{cursor: begin}
			f.read(t, command, dir, url, p.APIKey, func() bool { return len(f.ids) >= 3 })
			had := p.stays
			p.book()
			f.read(t, command, dir, url, p.APIKey, func() bool {
				if len(f.ids) > 2*had && p.stays == had+1 { // so that it has to go on from a page of its own
					p.book()
				}
				return len(f.ids) >= 2*(had+2)
			})
			want := p.events(begin)
			slices.Sort(want)
			slices.Sort(f.ids)
			if !slices.Equal(f.ids, want) {
				t.Errorf("it has the events %v, and they are %v", f.ids, want)
			}
		})
	}
}

// They read hosts' streams as well.
func TestTheDocumentedFollowersReadAHostsStream(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	for _, b := range blocks(t, "PULL.md") {
		if !strings.HasPrefix(b.name, "follow") {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			command, dir := prepare(t, b)
			host := "/api/v1/hosts/" + p.HostID
			status, list := p.send(http.MethodGet, host+"/notifications", p.HostToken, nil)
			if status != http.StatusOK {
				t.Fatalf("%d %v", status, list)
			}
			f := following{cursor: list["data"].(map[string]any)["stream_cursor"].(string)}
			p.book()
			f.read(t, command, dir, p.APIURL+host+"/events", p.HostToken, func() bool { return len(f.kinds) >= 3 })
			slices.Sort(f.kinds)
			if want := []string{"booking_update", "booking_update", "notification"}; !slices.Equal(f.kinds, want) {
				t.Errorf("it heard %v, want %v", f.kinds, want)
			}
		})
	}
}

// What will not be better by itself ends a reader, which says why.
func TestTheDocumentedReadersEndWithTheirKey(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	for _, b := range blocks(t, "PULL.md") {
		t.Run(b.name, func(t *testing.T) {
			command, dir := prepare(t, b)
			url := p.APIURL
			if strings.HasPrefix(b.name, "follow") {
				url += "/api/v1/external/events/stream"
			}
			cmd := exec.CommandContext(t.Context(), command[0], append(slices.Clone(command[1:]), url, "krib_dev_none", "")...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "401") || !strings.Contains(string(out), "invalid_api_key") {
				t.Errorf("it ended with %v and said %s", err, out)
			}
		})
	}
}
