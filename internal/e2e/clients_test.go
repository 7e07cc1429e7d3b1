//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"
)

// A cutter passes connections on to an address and cuts the first of them, each
// after so many bytes of the answer.
type cutter struct {
	URL   string
	to    string
	after []int64
	conns atomic.Int64
}

func newCutter(t *testing.T, url string, after ...int64) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{URL: "http://" + ln.Addr().String(), to: strings.TrimPrefix(url, "http://"), after: after}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(t.Context(), func() { conn.Close() }) // before the cleanup
			open.Go(func() {
				defer stop()
				c.pass(conn)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		open.Wait()
	})
	return c
}

func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	if n := int(c.conns.Add(1)); n <= len(c.after) {
		_, _ = io.CopyN(client, server, c.after[n-1])
		return
	}
	_, _ = io.Copy(client, server)
}

// cuts is what passes before each cut: the headers and the first frames, then more
// of them, and part of one.
var cuts = []int64{2501, 3502, 2203}

const clientEvents = 60

func clientText(n int) string { return fmt.Sprintf(" %d: é\u2028\r\n😀", n) }

// A streamClient reads custom events from a URL, on and on, until it has so many. It
// answers the text of each.
type streamClient func(t *testing.T, url, token string, events int) []string

// Clients that others wrote are cut off three times. Each comes back with the last id
// that it had, and has every event once and in order: what memory still has, and what
// happens while it reads.
func TestClientsOfOthersHaveEachEventOnceOverCuts(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	path := "/api/v1/hosts/" + k.HostID + "/events"
	from := k.host(t, http.MethodGet, "/api/v1/hosts/"+k.HostID+"/notifications", nil).text("stream_cursor")
	send := func(first, behind int) {
		for n := first; n < behind; n++ {
			a, err := k.try(t.Context(), http.MethodPost, path+"/send", k.HostToken, object{"text": clientText(n)})
			if err := answered(a, err); err != nil {
				t.Error(err)
			}
		}
	}
	send(0, clientEvents/2)
	var (
		sender  sync.WaitGroup
		reading = make(chan struct{}) // closed when the first of them reads
		first   sync.Once
	)
	sender.Go(func() { // no test of its own: it might have to wait for those who wait for it
		<-reading
		send(clientEvents/2, clientEvents)
	})
	var want []string
	for n := range clientEvents {
		want = append(want, clientText(n))
	}
	// One after the other: a test that has the broker to itself must not wait for its
	// turn among tests that wait for the broker.
	for name, read := range map[string]streamClient{
		"npm eventsource": npmEventSource, "Python httpx-sse": pythonHTTPX, "Go tmaxmax go-sse": goSSE,
	} {
		t.Run(name, func(t *testing.T) {
			first.Do(func() { close(reading) })
			proxy := newCutter(t, k.APIURL, cuts...)
			got := read(t, proxy.URL+path+"?last_event_id="+from, k.HostToken, clientEvents)
			if !slices.Equal(got, want) {
				t.Errorf("got %d events: %q", len(got), got)
			}
			if n := int(proxy.conns.Load()); n <= len(cuts) {
				t.Errorf("it made %d connections, and was to be cut off %d times", n, len(cuts))
			}
		})
	}
	sender.Wait()
}

func npmEventSource(t *testing.T, url, token string, events int) []string {
	t.Helper()
	dir := installClient(t, "package.json", "package-lock.json", "client.mjs")
	if _, err := runIn(t, dir, "npm", "view", "eventsource", "version"); err != nil {
		t.Skipf("NOT RUN: there is no npm, or no registry answers it: %v", err)
	}
	must(t, dir, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	return texts(t, must(t, dir, "node", "client.mjs", url, token, strconv.Itoa(events)))
}

func pythonHTTPX(t *testing.T, url, token string, events int) []string {
	t.Helper()
	dir := installClient(t, "requirements.txt", "client.py")
	if _, err := runIn(t, dir, "python3", "-m", "venv", "venv"); err != nil {
		t.Skipf("NOT RUN: Python makes no venv: %v", err)
	}
	if _, err := runIn(t, dir, "venv/bin/python", "-m", "pip", "download", "-q", "--no-deps", "--dest", "asked", "httpx-sse"); err != nil {
		t.Skipf("NOT RUN: no index answers pip: %v", err)
	}
	must(t, dir, "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "--no-deps", "-r", "requirements.txt")
	return texts(t, must(t, dir, "venv/bin/python", "client.py", url, token, strconv.Itoa(events)))
}

func goSSE(t *testing.T, url, token string, events int) []string {
	t.Helper()
	ctx, done := context.WithTimeout(t.Context(), clientWithin)
	defer done()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	var lines strings.Builder
	left := events
	conn := sse.NewConnection(req)
	conn.SubscribeEvent("custom", func(e sse.Event) {
		var o struct {
			Text json.RawMessage `json:"text"`
		}
		if err := json.Unmarshal([]byte(e.Data), &o); err != nil {
			t.Errorf("%q: %v", e.Data, err)
		}
		lines.Write(append(o.Text, '\n'))
		if left--; left == 0 {
			done()
		}
	})
	if err := conn.Connect(); left > 0 {
		t.Errorf("it gave up: %v", err)
	}
	return texts(t, []byte(lines.String()))
}

// clientWithin is above three waits for what a server asks for at most.
const clientWithin = 2 * time.Minute

// installClient makes a folder with some of the clients' files.
func installClient(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join("testdata", "clients", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// must runs a program in a folder and answers what it printed.
func must(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	out, err := runIn(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func runIn(t *testing.T, dir, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientWithin)
	defer cancel()
	if strings.Contains(name, "/") {
		name = filepath.Join(dir, name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w (Debian: nodejs, npm, python3-venv, curl)\n%s", name, args[0], err, &said)
	}
	return out.Bytes(), nil
}

// texts are lines of JSON strings.
func texts(t *testing.T, lines []byte) []string {
	t.Helper()
	var out []string
	for d := json.NewDecoder(bytes.NewReader(lines)); ; {
		var s string
		err := d.Decode(&s)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("it printed %q: %v", lines, err)
		}
		out = append(out, s)
	}
}
