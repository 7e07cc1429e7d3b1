package mcp

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

func theDocument(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("../openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Words that the document has by now, or that no tool needs, are not kept.
func TestEveryWordIsAnArgumentThatTheDocumentDoesNotDescribe(t *testing.T) {
	d := read(theDocument(t))
	all := words
	words = nil // so that what is described is so by the document
	defer func() { words = all }()
	needed := map[string]bool{}
	var look func(object)
	look = func(s object) {
		properties, _ := s["properties"].(object)
		for name, p := range properties {
			p := p.(object)
			needed[name] = needed[name] || p["description"] == nil
			look(p)
		}
	}
	for i := range tools {
		look(d.operation(&tools[i]).input)
	}
	for name := range all {
		if !needed[name] {
			t.Errorf("nothing needs the words of %s", name)
		}
	}
}

func TestAToolWithoutItsOperationEndsTheStart(t *testing.T) {
	for what, raw := range map[string]string{
		"no document": "", "no operation": `{"paths":{}}`,
		"no schema": strings.Replace(string(theDocument(t)), `"BookingInput": {`, `"AnotherBooking": {`, 1),
		"no limit":  strings.ReplaceAll(string(theDocument(t)), `"name": "limit"`, `"name": "most"`),
	} {
		t.Run(what, func(t *testing.T) {
			defer func() {
				if p, _ := recover().(string); !strings.HasPrefix(p, "mcp: ") {
					t.Errorf("panicked with %q", p)
				}
			}()
			New(Options{Document: []byte(raw)})
		})
	}
}

// The API ends an answer that it cannot finish by a panic, which a server's
// goroutine survives and a library's would not.
func TestAnAPIThatPanicsIsARefusal(t *testing.T) {
	h := New(Options{Document: theDocument(t), API: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"success":`))
		panic(http.ErrAbortHandler)
	})})
	srv := httptest.NewServer(h)
	defer srv.Close()
	s, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).
		Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: srv.URL, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		got, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: "search_properties"})
		if err != nil {
			t.Fatal(err)
		}
		var problem struct {
			Status int
			Code   string
		}
		if err := json.Unmarshal([]byte(got.Content[0].(*sdk.TextContent).Text), &problem); err != nil || !got.IsError || problem.Status != 500 || problem.Code != "internal_error" {
			t.Errorf("got %+v, %v", problem, err)
		}
	}
}
