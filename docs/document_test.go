package docs_test

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// A block is a fenced part of a document. A comment before it says what a test
// does with it: <!-- run: verify.go -->.
type block struct{ use, name, language, text string }

var fenced = regexp.MustCompile("(?sm)(?:^<!-- (\\w+): (\\S+) -->\n)?^```(\\w+)\n(.*?)^```$")

func read(t *testing.T, document string) string {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func blocks(t *testing.T, document string) (out []block) {
	t.Helper()
	for _, m := range fenced.FindAllStringSubmatch(read(t, document), -1) {
		out = append(out, block{m[1], m[2], m[3], m[4]})
	}
	if len(out) == 0 {
		t.Fatalf("%s has no blocks: the search for them is wrong", document)
	}
	return out
}

// named finds a block of a document.
func named(t *testing.T, document, name string) block {
	t.Helper()
	for _, b := range blocks(t, document) {
		if b.name == name {
			return b
		}
	}
	t.Fatalf("%s has no block %s", document, name)
	return block{}
}

// Nothing stands in the documents for developers of agents that no test has looked
// at.
func TestEveryBlockOfTheDocumentIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string][]string{
		"go": {"run"}, "js": {"run", "browser"}, "python": {"run"}, "cel": {""}, "sh": {"shell"},
		"json": {"body", "pulled", "received", "payment_info", "data", "mcp", "refusal"},
	}
	for _, document := range []string{"WEBHOOKS.md", "EVENTS.md", "PULL.md", "AGENTS.md", "ERRORS.md", "RECOVERY.md", "STREAM.md"} {
		for _, b := range blocks(t, document) {
			if !slices.Contains(tested[b.language], b.use) {
				t.Errorf("%s: no test is for a block of %s with the use %q: %.80s", document, b.language, b.use, b.text)
			}
			_, received := receivers[b.name]
			if _, read := readers[b.name]; b.use == "run" && !received && !read {
				t.Errorf("%s: %s is not run", document, b.name)
			}
		}
	}
}
