package store_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/internal/testenv"
)

var updateDocument = flag.Bool("update", false, "write the facts of docs/DATABASE.md anew from the migrations; its prose stays")

const document = "../../docs/DATABASE.md"

// unsaid stands in the document where somebody has to write what something is for.
const unsaid = "?"

// The document's facts are the database's own: a table, a column, an index, a
// trigger, a policy or a function that is only in one of the two fails. What is for
// what is written by people: each table, each function and each index has its
// reason, and an index names the queries that need it, which must be there.
func TestTheDatabaseIsAsItsDocumentSays(t *testing.T) {
	t.Parallel()
	old, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	got := newCatalog(t).document(prose(string(old)))
	if *updateDocument {
		if err := os.WriteFile(document, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		old = []byte(got)
	}
	if diff := cmp.Diff(strings.Split(string(old), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("docs/DATABASE.md is not the database (-document +database); go test ./internal/store -run TestTheDatabaseIs -update:\n%s", diff)
	}
	queries := queriesOf(t)
	for line := range strings.SplitSeq(got, "\n") {
		cells := cellsOf(line)
		if line == unsaid || len(cells) > 0 && cells[len(cells)-1] == unsaid {
			t.Errorf("docs/DATABASE.md does not say what this is for: %s", line)
		}
		if len(cells) == 3 && indexRow.MatchString(line) && !names(queries, cells[2]) {
			t.Errorf("docs/DATABASE.md names no query of this package, and no key, that needs the index: %s", line)
		}
	}
}

var (
	indexRow = regexp.MustCompile("^\\| `[a-z_]+` \\| (unique |exclude )?\\(")
	code     = regexp.MustCompile("`([^`]+)`")
)

// names says whether a reason is a query of the package, or that the table's rows
// must differ.
func names(queries map[string]bool, reason string) bool {
	for _, m := range code.FindAllStringSubmatch(reason, -1) {
		if !queries[m[1]] {
			return false
		}
	}
	return code.MatchString(reason) || strings.HasPrefix(reason, "a key:")
}

// queriesOf are the functions and methods of package store.
func queriesOf(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				out[fn.Name.Name] = true
			}
		}
	}
	return out
}

func cellsOf(line string) []string {
	inner, isRow := strings.CutPrefix(line, "| ")
	if !isRow {
		return nil
	}
	return strings.Split(strings.TrimSuffix(inner, " |"), " | ")
}

// prose is what people wrote: before the first table, and under each name.
func prose(doc string) map[string]string {
	out := map[string]string{}
	head, _, _ := strings.Cut(doc, "\n## ")
	out[""] = strings.TrimRight(head, "\n")
	section, text, open := "", []string{}, false
	for line := range strings.SplitSeq(doc, "\n") {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section, text, open = name, nil, true
			continue
		}
		if cells := cellsOf(line); len(cells) > 1 {
			out[cells[0]] = cells[len(cells)-1]
			if open {
				out[section] = strings.TrimSpace(strings.Join(text, "\n"))
			}
			open = false
		}
		text = append(text, line)
	}
	return out
}

// A catalog reads a migrated database.
type catalog struct {
	t *testing.T
	c *pgx.Conn
}

func newCatalog(t *testing.T) catalog {
	t.Helper()
	return catalog{t, connect(t, testenv.Database(t))}
}

// rows are a query's, as texts.
func (c catalog) rows(sql string, args ...any) [][]string {
	c.t.Helper()
	rows, _ := c.c.Query(c.t.Context(), sql, args...)
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		cells := make([]string, len(row.FieldDescriptions()))
		to := make([]any, len(cells))
		for i := range cells {
			to[i] = &cells[i]
		}
		err := row.Scan(to...)
		for i := range cells {
			cells[i] = strings.Join(strings.Fields(cells[i]), " ")
		}
		return cells, err
	})
	if err != nil {
		c.t.Fatalf("%s: %v", sql, err)
	}
	return out
}

func said(prose map[string]string, name string) string {
	if s := prose[name]; s != "" {
		return s
	}
	return unsaid
}

func table(b *strings.Builder, head string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, "\n| %s |\n|%s\n", head, strings.Repeat("---|", strings.Count(head, "|")+1))
	for _, r := range rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(r, " | "))
	}
}

// document writes all of it. Months of attempts are left out: they come and go.
func (c catalog) document(prose map[string]string) string {
	b := &strings.Builder{}
	b.WriteString(prose[""] + "\n")
	for _, r := range c.rows(`
		select c.relname::text, c.relkind::text from pg_class c
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition and c.relname <> 'goose_db_version'
		order by c.relkind = 'v', c.relname collate "C"`) {
		name := "`" + r[0] + "`"
		fmt.Fprintf(b, "\n## %s\n\n%s\n", name, said(prose, name))
		c.relation(b, r[0], prose)
	}
	fmt.Fprintf(b, "\n## Functions\n\n%s\n", said(prose, "Functions"))
	functions := c.rows(functionRows)
	for i, f := range functions {
		functions[i] = append(f, said(prose, f[0]))
	}
	table(b, "function | answers | rights of | called by | what for", functions)
	return b.String()
}

func (c catalog) relation(b *strings.Builder, name string, prose map[string]string) {
	table(b, "column | type | otherwise", c.rows(columnRows, name))
	indexes := c.rows(indexRows, name)
	for i, r := range indexes {
		indexes[i] = append(r, said(prose, r[0]))
	}
	table(b, "index | on | needed by", indexes)
	table(b, "trigger | does", c.rows(triggerRows, name))
	table(b, "policy | for | of | shows | lets through", c.rows(policyRows, name))
	table(b, "role | may", c.rows(rightRows, name))
}

const columnRows = `
select '` + "`" + `' || a.attname || '` + "`" + `', format_type(a.atttypid, a.atttypmod),
  concat_ws(', ', case when a.attnotnull then 'not null' end, case when a.attidentity <> '' then 'identity' end,
    'default ' || replace(pg_get_expr(d.adbin, d.adrelid), '|', '\|'))
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum`

const indexRows = `
select '` + "`" + `' || c.relname || '` + "`" + `',
  case when i.indisexclusion then 'exclude ' when i.indisunique then 'unique ' else '' end ||
  regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING (btree )?(gist )?', '')
from pg_index i join pg_class c on c.oid = i.indexrelid
where i.indrelid = $1::text::regclass
order by c.relname collate "C"`

const triggerRows = `
select '` + "`" + `' || t.tgname || '` + "`" + `', regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER \S+ (.*) ON \S+ (.*)$', '\1 \2')
from pg_trigger t where t.tgrelid = $1::text::regclass and not t.tgisinternal
order by t.tgname collate "C"`

// The owner has another name in each installation.
const policyRows = `
select '` + "`" + `' || p.polname || '` + "`" + `' || case when p.polpermissive then '' else ' (restrictive)' end,
  case p.polcmd when '*' then 'all' when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' else 'delete' end,
  array_to_string(array(select case when r = c.relowner then 'the owner' else r::regrole::text end from unnest(p.polroles) r order by 1), ', '),
  replace(coalesce(pg_get_expr(p.polqual, p.polrelid), ''), '|', '\|'), replace(coalesce(pg_get_expr(p.polwithcheck, p.polrelid), ''), '|', '\|')
from pg_policy p join pg_class c on c.oid = p.polrelid where p.polrelid = $1::text::regclass
order by p.polname collate "C"`

const rightRows = `
select r, string_agg(v || case when has_table_privilege(r, c.oid, v) then '' else ' (' || (
    select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and has_column_privilege(r, c.oid, a.attnum, v)) || ')' end, ', ' order by n)
from pg_class c, unnest(array['krib_api', 'krib_jobs', 'krib_relay', 'krib_sink']) r,
  unnest(array['select', 'insert', 'update', 'delete']) with ordinality verbs (v, n)
where c.oid = $1::text::regclass and (has_table_privilege(r, c.oid, v) or v <> 'delete' and has_any_column_privilege(r, c.oid, v))
group by r order by r`

const functionRows = `
select '` + "`" + `' || p.proname || '(' || pg_get_function_arguments(p.oid) || ')` + "`" + `', pg_get_function_result(p.oid),
  case when p.prosecdef then 'the owner' else 'its caller' end,
  case when has_function_privilege('public', p.oid, 'execute') then 'anybody' else array_to_string(array(
    select r from unnest(array['krib_api', 'krib_jobs', 'krib_relay', 'krib_sink']) r where has_function_privilege(r, p.oid, 'execute')), ', ') end
from pg_proc p
where p.pronamespace = 'public'::regnamespace
  and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
order by p.proname collate "C"`
