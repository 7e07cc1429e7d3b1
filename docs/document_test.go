package docs_test

import (
	"os"
	"regexp"
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

// Nothing stands in the document that no test has looked at.
func TestEveryBlockOfTheDocumentIsTested(t *testing.T) {
	t.Parallel()
	tested := map[string][]string{"go": {"run"}, "js": {"run"}, "python": {"run"}, "json": {"body", "payment_info", "data"}, "cel": {""}}
	for _, b := range blocks(t, "WEBHOOKS.md") {
		known := false
		for _, use := range tested[b.language] {
			known = known || use == b.use
		}
		if !known {
			t.Errorf("no test is for a block of %s with the use %q: %.80s", b.language, b.use, b.text)
		}
		if _, ok := receivers[b.name]; b.use == "run" && !ok {
			t.Errorf("%s is not run", b.name)
		}
	}
}
