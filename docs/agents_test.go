package docs_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/krib-ai/krib/api/mcp"
)

const agents = "AGENTS.md"

// shown is what the output of each part of the shell's script has.
var shown = map[string][]string{
	"setup":     {`"success":true`, `"city":"Dubai"`},
	"subscribe": {`"success":true`, `"status":"success"`},
	"book":      {`"is_available":true`, `"status":"pending"`, `"total_amount":950.00`},
	"confirm":   {`"old_status":"pending"`, `"new_status":"confirmed"`, `"status":"confirmed"`},
	"hear":      {`"event": "booking.created"`, `"event": "booking.confirmed"`, `"verified": true`},
	"wrong":     {`"code":"invalid_request"`, `"field":"check_in"`, `"field":"check_out"`, `"field":"guests"`, `"field":"guest_info"`},
	"replay":    {`"success":true`, `"dry_run":true`},
	"mcp":       append([]string{`"structuredContent":`, `"status":"confirmed"`}, mcp.Names()...),
}

// The commands are run as they stand there, one after the other, in a folder with
// the data of `make run`.
func TestTheCommandsForDevelopersOfAgentsWork(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	sh := newShell(t, p.dir, nil)
	for _, b := range blocks(t, agents) {
		if b.use != "shell" {
			continue
		}
		if shown[b.name] == nil {
			t.Errorf("nothing is known of what %s shows", b.name)
		}
		out := sh.run(b)
		for _, want := range shown[b.name] {
			if !strings.Contains(out, want) {
				t.Errorf("%s does not show %s: %s", b.name, want, out)
			}
		}
	}
	if n := p.call(http.MethodGet, "/api/v1/external/hosts/"+p.HostID+"/pending-bookings", nil)["total_count"]; n != 0.0 {
		t.Errorf("%v bookings wait: the repeated one was a second", n)
	}
}

// What hosts of models are configured with is enough for a client.
func TestTheDocumentedConfigurationForModelsIsEnough(t *testing.T) {
	t.Parallel()
	p := run(t, nil)
	for _, b := range blocks(t, agents) {
		if b.use != "mcp" {
			continue
		}
		var config struct {
			Servers map[string]struct {
				Type, URL string
				Headers   map[string]string
			} `json:"mcpServers"`
		}
		if err := json.Unmarshal([]byte(b.text), &config); err != nil {
			t.Fatal(err)
		}
		krib := config.Servers["krib"]
		at, err := url.Parse(krib.URL)
		if err != nil || krib.Type != "http" {
			t.Fatalf("%+v, %v", krib, err)
		}
		headers := http.Header{}
		for name, v := range krib.Headers {
			headers.Set(name, strings.Replace(v, "krib_dev_…", p.APIKey, 1))
		}
		transport := &sdk.StreamableClientTransport{Endpoint: p.APIURL + at.Path, HTTPClient: &http.Client{Transport: with{headers}}, MaxRetries: -1}
		s, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), transport, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if all, err := s.ListTools(t.Context(), nil); err != nil || len(all.Tools) != len(mcp.Names()) {
			t.Errorf("%v, %v", all, err)
		}
		return
	}
	t.Error("there is none")
}

// with sends headers with every request.
type with struct{ headers http.Header }

func (w with) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name := range w.headers {
		r.Header.Set(name, w.headers.Get(name))
	}
	return http.DefaultTransport.RoundTrip(r)
}

// The entry stays one that is read to its end, and what it says of retries is what
// the other document says.
func TestTheEntryForDevelopersOfAgentsIsShort(t *testing.T) {
	t.Parallel()
	text := read(t, agents)
	if n := strings.Count(text, "\n"); n >= 200 {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(text, delays()) {
		t.Errorf("the delays are %q", delays())
	}
}
