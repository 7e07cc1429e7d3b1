package docs_test

import (
	"bytes"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/app"
)

const benchmarks = "BENCHMARKS.md"

// What the document says of the command's flags is what the command says of them:
// to run what stands there takes a quarter of an hour.
func TestTheDocumentedFlagsOfTheBenchmarkAreItsOwn(t *testing.T) {
	t.Parallel()
	var help bytes.Buffer
	if code := app.Run(t.Context(), []string{"bench", "-h"}, func(string) (string, bool) { return "", false }, &help, io.Discard); code != 0 {
		t.Fatalf("it ended with %d: %s", code, &help)
	}
	defaults := map[string]string{}
	for _, f := range regexp.MustCompile(`(?m)^  -(\S+)(?: \w+)?\n(.*)$`).FindAllStringSubmatch(help.String(), -1) {
		defaults[f[1]] = ""
		if d := regexp.MustCompile(`\(default (\w+)\)$`).FindStringSubmatch(f[2]); d != nil {
			defaults[f[1]] = d[1]
		}
	}
	said := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `--(\\S+)` \\| ?(.*?) \\| .* \\|$").FindAllStringSubmatch(read(t, benchmarks), -1) {
		said[row[1]] = row[2]
		if row[2] == "the system's" {
			said[row[1]] = ""
		}
	}
	if !maps.Equal(said, defaults) || len(said) == 0 {
		t.Errorf("the document says %v, and the command %v", said, defaults)
	}
	for line := range strings.Lines(named(t, benchmarks, "bench").text) {
		command, _, _ := strings.Cut(line, "#")
		words := strings.Fields(command)
		if !slices.Equal(words[:2], []string{"krib", "bench"}) && !slices.Equal(words, []string{"make", "bench"}) {
			t.Errorf("%q is not the benchmark", line)
		}
		for _, word := range words {
			if name, ok := strings.CutPrefix(word, "--"); ok && !slices.Contains(slices.Collect(maps.Keys(defaults)), name) {
				t.Errorf("there is no %s", word)
			}
		}
	}
}
