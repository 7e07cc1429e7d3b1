package arch_test

import (
	"fmt"
	"slices"
	"strings"
)

const module = "github.com/krib-ai/krib"

// A law says what a package and those below it may import of ours. Packages of
// one law may import each other. A name stands for itself and for all below it.
type law struct {
	pkg string
	may []string
}

// anything is the floor where all is wired together; only tests' own packages are
// out of its reach.
const anything = "*"

// laws is the import table. Floors, from the top: main, app, then api, processors,
// sinks and internal/jobs, then producers, then internal, then schemas. Tests and
// internal/testenv are apart.
var laws = []law{
	{"schemas", nil},
	{"internal/kafka", []string{"schemas"}},
	{"internal/store", []string{"schemas"}},
	{"internal/seal", []string{"schemas"}},
	{"internal/filter", []string{"schemas"}},
	{"internal/webhook", nil},
	{"internal/audit", []string{"schemas", "internal/kafka", "internal/filter"}},
	{"internal/export", []string{"schemas", "internal/kafka"}},
	{"producers", []string{"schemas", "internal/store", "internal/kafka", "internal/seal", "internal/filter", "internal/webhook"}},
	{"processors/fanout", []string{"schemas", "internal/kafka", "internal/seal", "internal/filter", "internal/webhook"}},
	{"processors/deliver", []string{"schemas", "internal/kafka", "internal/seal", "internal/filter", "internal/webhook"}},
	{"processors/retry", []string{"schemas", "internal/kafka", "internal/seal", "internal/filter"}},
	{"processors/replay", []string{"schemas", "internal/kafka", "internal/seal", "internal/filter", "internal/webhook"}},
	{"sinks/notifications", []string{"schemas", "internal/kafka", "internal/store"}},
	{"sinks/attempts", []string{"schemas", "internal/kafka", "internal/store", "producers", "internal/webhook"}}, // it disables by a command
	{"sinks/push", []string{"schemas", "internal/kafka", "internal/store", "internal/sse", "internal/caller"}},
	{"sinks/pull", []string{"schemas", "internal/kafka", "internal/sse"}},
	{"sinks/email", []string{"schemas", "internal/kafka", "internal/store"}},
	{"internal/jobs", []string{"schemas", "producers", "internal/store"}},
	{"api", []string{"schemas", "producers", "internal/store", "internal/caller", "internal/filter", "internal/webhook", "internal/sse"}},
	{"internal/sse", nil},
	{"internal/caller", nil},
	{"internal/embedded", nil},
	{"internal/telemetry", nil},
	{"internal/bench", []string{"schemas", "internal/store", "internal/kafka", "internal/seal", "internal/sse", "producers", "processors/deliver"}},
	{"internal/listen", []string{"schemas", "internal/sse", "processors/deliver", "internal/webhook"}},
	{"app", []string{anything}},
	{"", []string{"app"}}, // main
	{"internal/testenv", []string{anything, "internal/testenv"}},
	{"internal/e2e", []string{anything, "internal/testenv"}},
	{"internal/arch", nil},
	{"docs", nil},
}

// forTests are the packages that no package of the program may import.
var forTests = []string{"internal/testenv", "internal/e2e", "internal/arch"}

// A fence keeps foreign packages to those of ours that may link them.
type fence struct {
	foreign []string
	only    []string
	because string
}

var fences = []fence{
	{
		[]string{"github.com/jackc/pgx", "github.com/jackc/pgconn", "github.com/lib/pq", "github.com/pressly/goose", "database/sql"},
		[]string{"internal/store", "internal/embedded", "internal/testenv", "internal/e2e", "internal/bench"}, // bench has a raw limit to measure
		"SQL is spoken in internal/store only; others call its functions and pass store.Tx on",
	},
	{
		[]string{"github.com/twmb/franz-go/pkg/kfake"},
		[]string{"internal/embedded", "internal/testenv", "internal/e2e"},
		"the fake broker is for `krib dev` and for tests",
	},
	{
		[]string{"cel.dev/cel-go", "github.com/google/cel-go"},
		[]string{"internal/filter"},
		"expressions are compiled in internal/filter, which bounds what they may cost",
	},
	{
		[]string{"github.com/parquet-go/parquet-go"},
		[]string{"internal/export"},
		"files for analysts are written by the export, behind its redaction",
	},
	{
		[]string{"github.com/go-chi"},
		[]string{"api", "app", "internal/testenv", "internal/e2e"},
		"HTTP comes in through api",
	},
	{
		[]string{"github.com/modelcontextprotocol/go-sdk"},
		[]string{"api/mcp"},
		"models come in through api/mcp",
	},
	{
		[]string{"github.com/wneessen/go-mail"},
		[]string{"sinks/email"},
		"mail is sent by its sink, from records",
	},
	{
		[]string{"github.com/emersion/go-smtp"},
		[]string{"internal/testenv"},
		"the mail server is for tests",
	},
	{
		[]string{"github.com/pb33f", "github.com/twmb/franz-go/pkg/sr/srfake"},
		[]string{"internal/testenv"},
		"what answers are held to, and the fake registry, are for tests",
	},
	{
		[]string{"testing", "github.com/google/go-cmp"},
		[]string{"internal/testenv", "internal/e2e"},
		"the program does not link what is for tests",
	},
}

// under says whether a path is the package or below it.
func under(path, pkg string) bool {
	return path == pkg || pkg != "" && strings.HasPrefix(path, pkg+"/")
}

func underAny(path string, pkgs []string) bool {
	return slices.ContainsFunc(pkgs, func(p string) bool { return under(path, p) })
}

// ours is the path of one of our packages inside the module.
func ours(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

// A pkg is what `go list -json` says of a package: imports are those of the
// program, not of its tests.
type pkg struct {
	ImportPath   string
	Dir          string
	Imports      []string
	Deps         []string
	GoFiles      []string
	CgoFiles     []string
	TestGoFiles  []string
	XTestGoFiles []string
}

// breaches are the sentences that a list of packages breaks.
func breaches(pkgs []pkg) []string {
	var out []string
	for _, p := range pkgs {
		name, _ := ours(p.ImportPath)
		i := slices.IndexFunc(laws, func(l law) bool { return under(name, l.pkg) })
		if i < 0 {
			out = append(out, fmt.Sprintf("%s is not in the import table: say there where it belongs", name))
			continue
		}
		for _, path := range p.Imports {
			out = append(out, breach(name, laws[i], path)...)
		}
	}
	return out
}

func breach(name string, l law, path string) []string {
	imported, isOurs := ours(path)
	switch {
	case !isOurs:
		return foreign(name, path)
	case under(imported, l.pkg) && l.pkg != "", underAny(imported, l.may):
		return nil
	case slices.Contains(l.may, anything) && !underAny(imported, forTests):
		return nil
	}
	return []string{fmt.Sprintf("%s imports %s, and may import of ours only %v", name, imported, l.may)}
}

// codecs are what schemas may import of others: one reads JSON, the other writes it,
// since the first has no hook for the form of times.
var codecs = []string{"github.com/segmentio/encoding/json", "github.com/go-json-experiment/json"}

func foreign(name, path string) []string {
	var out []string
	if standard := !strings.Contains(strings.Split(path, "/")[0], "."); name == "schemas" && !standard && !underAny(path, codecs) {
		out = append(out, fmt.Sprintf("schemas imports %s: the ground floor has the standard library and the JSON codecs only", path))
	}
	for _, f := range fences {
		if underAny(path, f.foreign) && !underAny(name, f.only) {
			out = append(out, fmt.Sprintf("%s imports %s: %s", name, path, f.because))
		}
	}
	return out
}
