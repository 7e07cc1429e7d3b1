package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// statusOf is what api makes of each kind of error.
var statusOf = map[string]int{
	"Internal": 500, "Malformed": 422, "Rule": 400, "Unauthorized": 401, "Forbidden": 403, "NotFound": 404, "Conflict": 409, "TooLarge": 413, "Unsupported": 415, "TooMany": 429, "Unavailable": 503,
}

// A maker is a function of a package that makes errors: where its code stands among
// its arguments, and the kind, if that is always the same.
type maker struct {
	code int
	kind string
}

// A reading finds the codes of one package's errors in its source.
type reading struct {
	makers map[string]maker // by name; schemas' own have the package's name before them
	consts map[string]string
	found  map[string]map[int]bool // code to its statuses
	odd    []string                // calls whose code cannot be read
}

// codesOf reads the packages below the folders: which code each error may have, with
// the statuses that it is answered with.
func codesOf(t *testing.T, folders ...string) map[string]map[int]bool {
	t.Helper()
	found := map[string]map[int]bool{}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(dir string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				readPackage(t, dir, found)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

func readPackage(t *testing.T, dir string, found map[string]map[int]bool) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	r := reading{makers: map[string]maker{"schemas.Errorf": {code: 1}, "schemas.Refuse": {code: 1}}, consts: map[string]string{}, found: found}
	for _, f := range files {
		r.constants(f)
	}
	for known := 0; known < len(r.makers); { // a maker may call another
		known, r.odd = len(r.makers), nil
		for _, f := range files {
			for _, d := range f.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil {
					r.function(f.Name.Name, f.Type, f.Body)
				} else {
					r.function("", &ast.FuncType{Params: &ast.FieldList{}}, d)
				}
			}
		}
	}
	for _, o := range r.odd {
		t.Errorf("%s: the code of this error cannot be read: %s", dir, o)
	}
}

func (r *reading) constants(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok {
			for i, value := range v.Values {
				if s, ok := literal(value); ok && i < len(v.Names) {
					r.consts[v.Names[i].Name] = s
				}
			}
		}
		return true
	})
}

func literal(e ast.Expr) (string, bool) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(l.Value)
	return s, err == nil
}

// function looks at every call in a body. One that hands a parameter on as the code
// makes the function a maker itself.
func (r *reading) function(name string, of *ast.FuncType, body ast.Node) {
	parameters := map[string]int{}
	n := 0
	for _, field := range of.Params.List {
		for _, p := range field.Names {
			parameters[p.Name] = n
			n++
		}
	}
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt: // add := func(code …) { … }
			if f, ok := node.Rhs[0].(*ast.FuncLit); ok && len(node.Lhs) == 1 {
				if id, ok := node.Lhs[0].(*ast.Ident); ok {
					r.function(id.Name, f.Type, f.Body)
					return false
				}
			}
		case *ast.CallExpr:
			r.call(node, name, parameters)
		}
		return true
	})
}

func (r *reading) call(c *ast.CallExpr, in string, parameters map[string]int) {
	m, ok := r.makers[nameOf(c.Fun)]
	if !ok || m.code >= len(c.Args) {
		return
	}
	kind := m.kind
	if k, ok := c.Args[0].(*ast.SelectorExpr); ok && kind == "" {
		kind = k.Sel.Name
	}
	code, ok := r.text(c.Args[m.code])
	if ok {
		if r.found[code] == nil {
			r.found[code] = map[int]bool{}
		}
		r.found[code][statusOf[kind]] = true
		return
	}
	if id, ok := c.Args[m.code].(*ast.Ident); ok {
		if at, ok := parameters[id.Name]; ok {
			r.makers[in] = maker{at, kind}
			return
		}
	}
	r.odd = append(r.odd, fmt.Sprintf("in %s: %s(…)", in, nameOf(c.Fun)))
}

// text is a literal, a constant of the package, or one that is made a string.
func (r *reading) text(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		return literal(e)
	case *ast.Ident:
		s, ok := r.consts[e.Name]
		return s, ok
	case *ast.CallExpr:
		if nameOf(e.Fun) == "string" && len(e.Args) == 1 {
			return r.text(e.Args[0])
		}
	}
	return "", false
}

// nameOf is what is called: a function of this package, or of schemas.
func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		if p, ok := e.X.(*ast.Ident); ok && p.Name == "schemas" {
			return "schemas." + e.Sel.Name
		}
	case *ast.IndexExpr: // of a generic function
		return nameOf(e.X)
	}
	return ""
}

// Whoever meets a code finds it in the document, and the document has no other.
func TestEveryCodeOfAnErrorIsDocumentedWithItsStatus(t *testing.T) {
	t.Parallel()
	made := codesOf(t, "../api", "../producers", "../internal/store", "../internal/filter", "../sinks/pull")
	delete(made, "panic")                                // of a panic's own log line; internal_error is answered
	made["method_not_allowed"] = map[int]bool{405: true} // the one status that only HTTP knows
	said := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([0-9, ]+) \\| ([^|]+) \\| ([^|]+) \\|$")
	for _, m := range row.FindAllStringSubmatch(read(t, "ERRORS.md"), -1) {
		if said[m[1]] != "" {
			t.Errorf("%s stands there twice", m[1])
		}
		said[m[1]] = m[2]
	}
	for code, statuses := range made {
		var want []string
		for _, s := range slices.Sorted(maps.Keys(statuses)) {
			want = append(want, strconv.Itoa(s))
		}
		if got := said[code]; got != strings.Join(want, ", ") {
			t.Errorf("%s: the document says %q, the code answers %v", code, got, want)
		}
		delete(said, code)
	}
	for code := range said {
		t.Errorf("%s is in the document and nothing makes it", code)
	}
}

func TestTheDocumentedRefusalIsWhatIsAnswered(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	n := 0
	for _, b := range blocks(t, "ERRORS.md") {
		n++
		want := exact(t, []byte(b.text))
		status, got := p.send(http.MethodPost, "/api/v1/bookings", p.APIKey, map[string]any{
			"property_id": p.PropertyID, "check_in": "2026-06-01", "check_out": "2026-06-03", "guests": 99, "total_amount": 950,
			"guest_info": map[string]any{"first_name": "Amira", "last_name": "Haddad", "email": "nobody", "phone": "501234567"},
		})
		if id, _ := got["request_id"].(string); len(id) != len(want["request_id"].(string)) {
			t.Errorf("the request's id is %q", id)
		}
		delete(got, "request_id")
		delete(want, "request_id")
		if fmt.Sprint(got) != fmt.Sprint(want) || fmt.Sprint(status) != fmt.Sprint(want["status"]) {
			t.Errorf("answered\n%v, and in the document\n%v", got, want)
		}
	}
	if n != 1 {
		t.Errorf("%d examples", n)
	}
}
