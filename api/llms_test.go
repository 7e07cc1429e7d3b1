package api_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/krib-ai/krib/api/mcp"
)

func TestWhatIsSaidToModelsIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := client{w: w}.do("GET", "/llms.txt", nil).want(200)
	if got := r.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	said := string(r.body)
	if !strings.HasPrefix(said, "# Krib\n\n> ") {
		t.Errorf("it does not begin as llms.txt does: %.40s", said)
	}
	paths := regexp.MustCompile(`\]\((/[^)]*)\)`).FindAllStringSubmatch(said, -1)
	if len(paths) < 5 {
		t.Errorf("it names %v", paths)
	}
	a := w.key("admin")
	for _, p := range paths {
		answered := slices.ContainsFunc([]string{"GET", "POST"}, func(method string) bool {
			status := a.do(method, p[1], nil).status
			return status != 404 && status != 405
		})
		if !answered {
			t.Errorf("%s is named and answers nothing", p[1])
		}
	}
	documents := regexp.MustCompile(`/blob/main/([^)]*)`).FindAllStringSubmatch(said, -1)
	for _, d := range documents {
		if _, err := os.Stat("../" + d[1]); err != nil {
			t.Error(err)
		}
	}
	if len(documents) < 3 {
		t.Errorf("it names the documents %v", documents)
	}
	_, list, _ := strings.Cut(said, "Its tools:")
	list, _, _ = strings.Cut(list, "\n\n")
	named := strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ' ' || c == '\n' })
	if want := mcp.Names(); !slices.Equal(named, want) {
		t.Errorf("it names the tools %v, and they are %v", named, want)
	}
}
