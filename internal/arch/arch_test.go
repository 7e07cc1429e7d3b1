package arch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's folder: tests run in their package's own.
const root = "../.."

// list asks the go command, with the tag of the end-to-end tests, so that no
// package hides behind it. It reads folders that do not compile too.
func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-tags=e2e", "-json=ImportPath,Dir,Imports,Deps,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v\n%s", err, &stderr)
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if !slices.ContainsFunc(pkgs, func(p pkg) bool { return p.ImportPath == module+"/schemas" }) {
		t.Fatalf("schemas is not among the %d packages: the listing is wrong, and so would be every verdict", len(pkgs))
	}
	return pkgs
}

func TestPackagesImportOnlyWhatTheTableAllows(t *testing.T) {
	for _, b := range breaches(list(t)) {
		t.Error(b)
	}
}

// What a package links is more than what it names.
func TestTheFakeBrokerIsLinkedByDevAndTestsOnly(t *testing.T) {
	may := []string{"internal/embedded", "internal/testenv", "internal/e2e", "app"}
	for _, p := range list(t) {
		name, _ := ours(p.ImportPath)
		if name != "" && !underAny(name, may) && slices.Contains(p.Deps, "github.com/twmb/franz-go/pkg/kfake") {
			t.Errorf("%s links kfake", name)
		}
	}
}

// The verdicts on imports that no package should have.
func TestTheImportTableCatchesWhatItForbids(t *testing.T) {
	for _, c := range []struct {
		pkg, imports string
		ok           bool
	}{
		{"schemas", "github.com/segmentio/encoding/json", true},
		{"schemas", "github.com/google/uuid", false},
		{"schemas", module + "/internal/kafka", false},
		{"producers/outbox", module + "/internal/store", true},
		{"producers", "github.com/jackc/pgx/v5", false},
		{"producers", module + "/api", false},
		{"processors/fanout", module + "/internal/kafka", true},
		{"processors/fanout", module + "/processors/deliver", false},
		{"processors/deliver", module + "/internal/store", false},
		{"processors/deliver", "github.com/go-chi/chi/v5", false},
		{"processors/fanout", module + "/internal/filter", true},
		{"processors/fanout", "cel.dev/cel-go/cel", false},
		{"internal/filter", "cel.dev/cel-go/cel", true},
		{"internal/filter", module + "/internal/kafka", false},
		{"sinks/attempts", module + "/producers", true},
		{"sinks/push", module + "/producers", false},
		{"sinks/push", "github.com/jackc/pgx/v5/pgxpool", false},
		{"sinks/email", module + "/internal/store", true},
		{"sinks/email", module + "/producers", false},
		{"sinks/email", "github.com/wneessen/go-mail", true},
		{"sinks/email", "github.com/emersion/go-smtp", false},
		{"producers", "github.com/wneessen/go-mail/smtp", false},
		{"sinks/pull", module + "/internal/sse", true},
		{"sinks/pull", module + "/sinks/push", false},
		{"internal/sse", module + "/schemas", false},
		{"internal/listen", module + "/processors/deliver", true},
		{"internal/listen", module + "/internal/kafka", false},
		{"api", module + "/api/auth", true},
		{"api/auth", module + "/internal/store", true},
		{"api", module + "/processors/retry", false},
		{"api/mcp", "github.com/modelcontextprotocol/go-sdk/mcp", true},
		{"api", "github.com/modelcontextprotocol/go-sdk/mcp", false},
		{"api", module + "/sinks/push", false},
		{"api", "database/sql", false},
		{"app", module + "/sinks/push", true},
		{"app", module + "/internal/embedded", true},
		{"app", module + "/internal/testenv", false},
		{"app", "testing", false},
		{"app", "github.com/twmb/franz-go/pkg/kfake", false},
		{"", module + "/app", true},
		{"", module + "/api", false},
		{"internal/telemetry", module + "/schemas", false},
		{"internal/e2e", module + "/internal/testenv", true},
		{"internal/kafkaesque", "fmt", false},
		{"utils", "fmt", false},
	} {
		p := pkg{ImportPath: strings.TrimSuffix(module+"/"+c.pkg, "/"), Imports: []string{c.imports}}
		if got := breaches([]pkg{p}); (len(got) == 0) != c.ok {
			t.Errorf("%q imports %s: verdict %v, allowed %t", c.pkg, c.imports, got, c.ok)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	for _, p := range list(t) {
		name, _ := ours(p.ImportPath)
		files := slices.Concat(p.GoFiles, p.CgoFiles)
		if len(files) == 0 {
			files = slices.Concat(p.TestGoFiles, p.XTestGoFiles)
		}
		var documented []string
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if f.Doc == nil {
				continue
			}
			documented = append(documented, file)
			if f.Name.Name != "main" && !strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ") {
				t.Errorf("%s/%s: the comment does not begin with Package %s", name, file, f.Name.Name)
			}
		}
		if len(documented) != 1 {
			t.Errorf("package %q has %d comments %v, want one", name, len(documented), documented)
		}
	}
}

// environment are the functions that read what the process was started with.
var environment = []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}

// Flags and variables are read in app and handed down, so that a package's
// options are all it depends on. internal/embedded hands the environment, or its
// PATH, on to the processes that it starts.
func TestTheEnvironmentIsReadInAppOnly(t *testing.T) {
	for _, p := range list(t) {
		name, _ := ours(p.ImportPath)
		if underAny(name, []string{"app", "internal/testenv", "internal/e2e"}) {
			continue
		}
		for _, file := range slices.Concat(p.GoFiles, p.CgoFiles) {
			for _, read := range environmentReads(t, filepath.Join(p.Dir, file)) {
				handsOn := read == "Environ()" || read == `Getenv("PATH")`
				if !handsOn || !under(name, "internal/embedded") {
					t.Errorf("%s/%s calls os.%s", name, file, read)
				}
			}
		}
	}
}

func environmentReads(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Errorf("%v", err)
		return nil
	}
	names := map[string]bool{} // what os and syscall are called in this file
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		if path != "os" && path != "syscall" {
			continue
		}
		names[path] = true
		if i.Name != nil {
			names[i.Name.Name] = true
		}
	}
	var reads []string
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && names[x.Name] && slices.Contains(environment, s.Sel.Name) {
			reads = append(reads, s.Sel.Name+arguments(f, s))
		}
		return true
	})
	return reads
}

// arguments is what a function is called with, as far as it is written out; empty
// when it is not called but handed on.
func arguments(f *ast.File, fn *ast.SelectorExpr) string {
	var out string
	ast.Inspect(f, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok || c.Fun != ast.Expr(fn) {
			return true
		}
		out = "()"
		if len(c.Args) == 1 {
			out = "(…)"
			if l, ok := c.Args[0].(*ast.BasicLit); ok {
				out = "(" + l.Value + ")"
			}
		}
		return false
	})
	return out
}

var (
	testInDocs = regexp.MustCompile("`(?:[\\w/.]*[./])?((?:Test|Fuzz|Benchmark|Example)\\w*)(?:/[^`]*)?`")
	testInGo   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark|Example)\w*)\(`)
)

// docs/TESTING.md says which test proves which promise; a test that was renamed
// must not leave a promise without proof.
func TestEveryTestThatTheDocsNameExists(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "TESTING.md"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("there is no docs/TESTING.md yet")
	}
	if err != nil {
		t.Fatal(err)
	}
	have := testNames(t)
	rows := 0
	for line := range strings.Lines(string(doc)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "|") {
			continue
		}
		for _, m := range testInDocs.FindAllStringSubmatch(line, -1) {
			rows++
			if !have[m[1]] {
				t.Errorf("docs/TESTING.md names %s, which is nowhere", m[1])
			}
		}
	}
	if rows == 0 {
		t.Error("docs/TESTING.md has no row that names a test")
	}
}

func testNames(t *testing.T) map[string]bool {
	t.Helper()
	have := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range testInGo.FindAllSubmatch(b, -1) {
			have[string(m[1])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}
