package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/krib-ai/krib/schemas"
)

// A caller makes calls into requests to the API.
type caller struct {
	api    http.Handler
	refuse func(http.ResponseWriter, *http.Request, error)
}

// carried are the headers of the caller's request that its calls have too.
var carried = []string{"Authorization", "Traceparent", "X-Request-Id"}

// handler serves the tool of an operation.
func (c caller) handler(op *operation) sdk.ToolHandler {
	return func(ctx context.Context, call *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
		ctx, cancel := whileConnected(ctx)
		defer cancel()
		var header http.Header
		if call.Extra != nil {
			header = call.Extra.Header
		}
		return c.do(ctx, op, call.Params.Arguments, header).result(op)
	}
}

// do sends what a call asks for. A panic of the API has been told there; here it
// must not end the process, since the library calls in a goroutine of its own.
func (c caller) do(ctx context.Context, op *operation, arguments json.RawMessage, from http.Header) (a *Answer) {
	a = NewAnswer()
	defer func() {
		if recover() != nil {
			a = NewAnswer()
			a.status = http.StatusInternalServerError
		}
	}()
	r, err := op.request(ctx, arguments)
	for _, name := range carried {
		if v := from.Get(name); v != "" {
			r.Header.Set(name, v)
		}
	}
	if err != nil {
		c.refuse(a, r, err)
		return a
	}
	c.api.ServeHTTP(a, r)
	return a
}

// request is the one that a call becomes. With an error it is one to the
// operation's path, for the log.
func (op *operation) request(ctx context.Context, arguments json.RawMessage) (*http.Request, error) {
	given, err := op.read(arguments)
	path, query, body := op.path, url.Values{}, map[string]json.RawMessage{}
	header := http.Header{}
	for name, a := range op.arguments {
		v, ok := given[name]
		switch {
		case !ok:
		case a.place == inBody:
			body[a.name] = v
		case a.place == inPath:
			path = strings.ReplaceAll(path, "{"+a.name+"}", url.PathEscape(plain(v)))
		case a.place == inQuery:
			query.Set(a.name, plain(v))
		case a.place == inHeader:
			header.Set(a.name, plain(v))
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var raw []byte
	if op.body && err == nil {
		raw, err = json.Marshal(body) // sorted, so that a repeated call has the same body
	}
	r, failed := http.NewRequestWithContext(ctx, op.method, path, bytes.NewReader(raw))
	if failed != nil {
		return nil, fmt.Errorf("making a request to %s: %w", op.path, failed)
	}
	maps.Copy(r.Header, header)
	return r, err
}

// read takes the arguments apart. What no request can carry is refused here, all at
// once; what is in them is the API's to judge. Null is absent.
func (op *operation) read(arguments json.RawMessage) (map[string]json.RawMessage, error) {
	var given map[string]json.RawMessage
	if len(arguments) > 0 && json.Unmarshal(arguments, &given) != nil {
		return nil, refused([]schemas.FieldError{{Field: "", Rule: "type", Message: "arguments must be an object"}})
	}
	maps.DeleteFunc(given, func(_ string, v json.RawMessage) bool { return string(v) == "null" })
	var wrong []schemas.FieldError
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if len(wrong) == maxErrors {
			break
		}
		a, ok := op.arguments[name]
		switch v := given[name]; {
		case !ok:
			name = short(name)
			wrong = append(wrong, schemas.FieldError{Field: name, Rule: "unknown", Message: name + " is not known here"})
		case a.place != inBody && !a.takes(v): // what is in a body is judged there, by the same rule
			wrong = append(wrong, schemas.FieldError{Field: name, Rule: "type", Message: name + " must be " + a.must()})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(op.arguments)) {
		a := op.arguments[name]
		v, ok := given[name]
		switch {
		case a.place == inPath && (!ok || plain(v) == ""):
			wrong = append(wrong, schemas.FieldError{Field: name, Rule: "required", Message: name + " is required"})
		case !ok && a.fallback != nil:
			if given == nil {
				given = map[string]json.RawMessage{}
			}
			given[name] = json.RawMessage(fmt.Sprint(a.fallback))
		}
	}
	if wrong != nil {
		return given, refused(wrong)
	}
	return given, nil
}

// maxErrors are those of one call; it may have thousands of arguments that are unknown.
const maxErrors = 50

// short is what is shown of a name that is the caller's.
func short(name string) string {
	if len(name) > 64 {
		return strings.ToValidUTF8(name[:64], "") + "…"
	}
	return name
}

func refused(wrong []schemas.FieldError) error {
	e := schemas.Errorf(schemas.Malformed, "invalid_request", "%s", wrong[0].Message)
	if n := len(wrong) - 1; n > 0 {
		e.Detail += fmt.Sprintf(" (and %d more)", n)
	}
	e.Fields = wrong
	return e
}

// plain is a JSON value as a URL or a header has it.
func plain(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

// result is the answer as a tool's. A refusal is one too, so that the model reads
// it: its text is the API's error, with the time to wait where there is one.
func (a *Answer) result(op *operation) (*sdk.CallToolResult, error) {
	text := a.body.Bytes()
	if a.status == http.StatusOK {
		return &sdk.CallToolResult{Content: contentOf(text), StructuredContent: json.RawMessage(text)}, nil
	}
	problem := object{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if d.Decode(&problem) != nil {
		problem = object{"code": "internal_error", "detail": "something went wrong here", "status": a.status}
	}
	op.blame(problem)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err == nil {
		problem[retryAfter] = seconds
	}
	text, err := json.Marshal(problem)
	if err != nil {
		return nil, fmt.Errorf("writing a refusal: %w", err)
	}
	return &sdk.CallToolResult{Content: contentOf(text), IsError: true}, nil
}

// blame names a header that is wrong as the argument that it came from.
func (op *operation) blame(problem object) {
	fields, _ := problem["errors"].([]any)
	for _, f := range fields {
		f, _ := f.(object)
		for name, a := range op.arguments {
			if a.place == inHeader && f["field"] == a.name {
				f["field"] = name
			}
		}
	}
}

func contentOf(text []byte) []sdk.Content {
	return []sdk.Content{&sdk.TextContent{Text: string(text)}}
}
