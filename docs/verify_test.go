package docs_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// A request is what a receiver is fed, in JSON.
type request struct {
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
	Key     string            `json:"key"`

	name string
	ok   bool
}

// A receiver puts a snippet into a program that reads requests and prints a line
// for each: accepted, or refused. Whatever else goes wrong ends it.
type receiver struct {
	versions []string
	files    map[string]string
	command  func(*testing.T) []string
}

var receivers = map[string]receiver{
	"verify.go": {
		[]string{"v1", "v1a"},
		map[string]string{
			"go.mod": "module receiver\n\ngo 1.26\n",
			"main.go": `package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"

	"receiver/webhooks"
)

func main() {
	var requests []struct {
		Headers   map[string]string
		Body, Key string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	for _, r := range requests {
		header := http.Header{}
		for k, v := range r.Headers {
			header.Set(k, v)
		}
		if err := webhooks.Verify(header, []byte(r.Body), r.Key); err != nil {
			fmt.Println("refused:", err)
			continue
		}
		fmt.Println("accepted")
	}
}
`,
		},
		func(*testing.T) []string { return []string{"go", "run", "."} },
	},
	"verify.mjs": {
		[]string{"v1", "v1a"},
		map[string]string{"main.mjs": `import { readFileSync } from "node:fs";
import { verify } from "./verify.mjs";
for (const r of JSON.parse(readFileSync(0))) {
  try {
    verify(r.headers, Buffer.from(r.body), r.key);
    console.log("accepted");
  } catch (e) {
    if (e.constructor !== Error) throw e;
    console.log("refused: " + e.message);
  }
}
`},
		node,
	},
	"verify_v1.py":  {[]string{"v1"}, map[string]string{"main.py": pythonMain("verify_v1")}, python("json")},
	"verify_v1a.py": {[]string{"v1a"}, map[string]string{"main.py": pythonMain("verify_v1a")}, python("cryptography")},
}

func pythonMain(module string) string {
	return "import json, sys\nfrom " + module + ` import verify
for r in json.load(sys.stdin):
    try:
        verify(r["headers"], r["body"].encode(), r["key"])
        print("accepted")
    except ValueError as e:
        print("refused:", e)
`
}

func node(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatal("Node is needed to run what the documents say: apt-get install nodejs")
	}
	return []string{"node", "main.mjs"}
}

// python is one that has the library: the first on the PATH, or the system's.
func python(library string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		for _, p := range []string{"python3", "/usr/bin/python3"} {
			if exec.CommandContext(t.Context(), p, "-c", "import "+library).Run() == nil {
				return []string{p, "main.py"}
			}
		}
		t.Fatalf("Python with %s is needed to run what the documents say: apt-get install python3 python3-cryptography", library)
		return nil
	}
}

// A signer makes signatures of one version, and has the key that verifies them.
type signer struct {
	version, key string
	sign         func(id string, at time.Time, body []byte) string
}

func hmacSigner() signer {
	secret, text := schemas.NewSigningSecret()
	return signer{"v1", text.Reveal(), func(id string, at time.Time, body []byte) string { return deliver.Sign(id, at, body, secret) }}
}

func ed25519Signer() signer {
	seed, public := schemas.NewSigningKey()
	key := ed25519.NewKeyFromSeed(seed)
	return signer{"v1a", public, func(id string, at time.Time, body []byte) string {
		content := id + "." + strconv.FormatInt(at.Unix(), 10) + "." + string(body)
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(content)))
	}}
}

// cases are requests to a receiver that has the signer's key. The other one is of
// the same version, and signs while a secret is being rotated.
func cases(s, other signer, foreign string, body []byte) []request {
	const id = "evt_01950000000070008000000000000001"
	now := time.Now()
	signed := func(signatures ...string) map[string]string {
		return map[string]string{
			"webhook-id": id, "webhook-timestamp": strconv.FormatInt(now.Unix(), 10), "webhook-signature": strings.Join(signatures, " "),
		}
	}
	with := func(h map[string]string, name, value string) map[string]string {
		h = maps.Clone(h)
		h[name] = value
		return h
	}
	at := func(t time.Time) map[string]string {
		return with(signed(s.sign(id, t, body)), "webhook-timestamp", strconv.FormatInt(t.Unix(), 10))
	}
	without := func(name string) map[string]string {
		h := signed(s.sign(id, now, body))
		delete(h, name)
		return h
	}
	good, bad := s.sign(id, now, body), other.sign(id, now, body)
	_, base64Part, _ := strings.Cut(good, ",")
	text := string(body)
	return []request{
		{name: "as signed", Headers: signed(good), Body: text, ok: true},
		{name: "rotated, the new one first", Headers: signed(good, bad), Body: text, ok: true},
		{name: "rotated, the old one first", Headers: signed(bad, good), Body: text, ok: true},
		{name: "beside a version that it does not know", Headers: signed("v9,"+base64Part, "v10", good), Body: text, ok: true},
		{name: "beside one of another algorithm", Headers: signed(foreign, good, foreign), Body: text, ok: true},
		{name: "four minutes old", Headers: at(now.Add(-4 * time.Minute)), Body: text, ok: true},
		{name: "with another secret", Headers: signed(bad), Body: text},
		{name: "with other secrets", Headers: signed(bad, bad), Body: text},
		{name: "another body", Headers: signed(good), Body: text + " "},
		{name: "another id", Headers: with(signed(good), "webhook-id", id+"0"), Body: text},
		{name: "another time", Headers: with(signed(good), "webhook-timestamp", strconv.FormatInt(now.Unix()-1, 10)), Body: text},
		{name: "six minutes old", Headers: at(now.Add(-6 * time.Minute)), Body: text},
		{name: "six minutes ahead", Headers: at(now.Add(6 * time.Minute)), Body: text},
		{name: "a year old", Headers: at(now.AddDate(-1, 0, 0)), Body: text},
		{name: "a time that is no number", Headers: with(signed(good), "webhook-timestamp", "soon"), Body: text},
		{name: "without its time", Headers: without("webhook-timestamp"), Body: text},
		{name: "without its id", Headers: without("webhook-id"), Body: text},
		{name: "without a signature", Headers: without("webhook-signature"), Body: text},
		{name: "with an empty one", Headers: signed(s.version + ","), Body: text},
		{name: "with a cut one", Headers: signed(good[:len(good)-8]), Body: text},
		{name: "under the name of another version", Headers: signed("v9," + base64Part), Body: text},
		{name: "of another algorithm", Headers: signed(foreign), Body: text},
	}
}

// What the document tells receivers to do accepts what Krib signs, and nothing
// else, in each of its languages.
func TestTheDocumentedReceiversTakeWhatIsSignedAndNothingElse(t *testing.T) {
	t.Parallel()
	e := golden(t, "created")
	body := sent(t, &e)
	for _, b := range blocks(t, "WEBHOOKS.md") {
		if b.use != "run" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := receivers[b.name]
			var requests []request
			for _, version := range r.versions {
				requests = append(requests, casesOf(version, body)...)
			}
			for i, got := range answers(t, b, r, requests) {
				c := requests[i]
				if (got == "accepted") != c.ok {
					t.Errorf("%s, with %.5s…: %s", c.name, c.Key, got)
				}
			}
		})
	}
}

func casesOf(version string, body []byte) []request {
	s, other, foreign := hmacSigner(), hmacSigner(), ed25519Signer()
	if version == "v1a" {
		s, other, foreign = ed25519Signer(), ed25519Signer(), hmacSigner()
	}
	cs := cases(s, other, foreign.sign("evt_01950000000070008000000000000001", time.Now(), body), body)
	for i := range cs {
		cs[i].Key = s.key
	}
	return cs
}

// answers runs a snippet in its program: a line for each request.
func answers(t *testing.T, b block, r receiver, requests []request) []string {
	t.Helper()
	dir := t.TempDir()
	files := maps.Clone(r.files)
	if b.language == "go" {
		files["webhooks/"+b.name] = b.text
	} else {
		files[b.name] = b.text
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // the Go one is compiled, on a busy machine
	defer cancel()
	command := r.command(t)
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0", "PYTHONDONTWRITEBYTECODE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	lines := slices.Collect(strings.Lines(string(out)))
	if err != nil || len(lines) != len(requests) {
		t.Fatalf("running %s: %v, %d answers to %d requests\n%s%s", b.name, err, len(lines), len(requests), out, &stderr)
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return lines
}
