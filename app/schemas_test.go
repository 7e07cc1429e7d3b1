package app_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/krib-ai/krib/app"
	"github.com/krib-ai/krib/schemas"
)

// schemasCommand runs `krib schemas` with an environment of name, value pairs.
func schemasCommand(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	var out, errs bytes.Buffer
	code = app.Run(t.Context(), append([]string{"schemas"}, args...), lookup, &out, &errs)
	return code, out.String(), errs.String()
}

func registryAt(t *testing.T, opts ...srfake.Option) *srfake.Registry {
	t.Helper()
	r := srfake.New(opts...)
	t.Cleanup(r.Close)
	return r
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y bytes.Buffer
	if err := json.Compact(&x, a); err != nil {
		t.Fatal(err)
	}
	if err := json.Compact(&y, b); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x.Bytes(), y.Bytes())
}

func TestEveryTopicsSchemaIsRegisteredOnce(t *testing.T) {
	r := registryAt(t)
	env := map[string]string{"KRIB_SCHEMA_REGISTRY_URL": r.URL(), "KRIB_RETRY_TIERS": "1s,90s"}
	code, out, errs := schemasCommand(t, env, "register")
	if code != 0 {
		t.Fatalf("ended with %d: %s", code, errs)
	}
	for subject, name := range map[string]string{
		"booking.events-value": schemas.SchemaEvent, "webhook.subscriptions-value": schemas.SchemaSubscription, "webhook.deliveries-value": schemas.SchemaDelivery,
		"webhook.retry.1s-value": schemas.SchemaDelivery, "webhook.retry.1m30s-value": schemas.SchemaDelivery, "webhook.dead-value": schemas.SchemaDelivery,
		"webhook.holds-value": schemas.SchemaHold, "webhook.attempts-value": schemas.SchemaAttempt, "host.notifications-value": schemas.SchemaFeed,
		"outbox.progress-value": schemas.SchemaProgress, "krib.poison-value": schemas.SchemaPoison,
	} {
		got, ok := r.GetSchema(subject, 1)
		want, err := schemas.Schema(name)
		if err != nil || !ok || got.Type != sr.TypeJSON || !sameJSON(t, []byte(got.Schema.Schema), want) {
			t.Errorf("%s: there %v, type %v, %v", subject, ok, got.Type, err)
		}
		if !strings.Contains(out, subject) {
			t.Errorf("%s is not said: %s", subject, out)
		}
	}
	if n := strings.Count(out, "registered"); n != 11 {
		t.Errorf("%d subjects were registered: %s", n, out)
	}
	code, out, errs = schemasCommand(t, env, "register")
	if code != 0 || strings.Count(out, "unchanged") != 11 || strings.Contains(out, "registered") {
		t.Errorf("the second time ended with %d: %s%s", code, out, errs)
	}
	if _, ok := r.GetSchema("booking.events-value", 2); ok {
		t.Error("the second time made a version")
	}
}

// at are the settings of a registry.
func at(url string) map[string]string { return map[string]string{"KRIB_SCHEMA_REGISTRY_URL": url} }

func TestASchemaThatChangedIsTheNextVersion(t *testing.T) {
	r := registryAt(t)
	older := `{"$id":"https://schemas.krib.ai/v1/booking-event.json","type":"object"}`
	if _, _, err := r.RegisterSchema("booking.events-value", sr.Schema{Schema: older, Type: sr.TypeJSON}); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := schemasCommand(t, at(r.URL()), "register"); code != 0 {
		t.Fatalf("ended with %d: %s", code, errs)
	}
	want, err := schemas.Schema(schemas.SchemaEvent)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := r.GetSchema("booking.events-value", 2); !ok || !sameJSON(t, []byte(got.Schema.Schema), want) {
		t.Errorf("version 2: %v, %.80s", ok, got.Schema.Schema)
	}
}

func TestEachSubjectGetsTheCompatibilityThatWasAskedFor(t *testing.T) {
	r := registryAt(t)
	cl, err := sr.NewClient(sr.URLs(r.URL()))
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]sr.CompatibilityLevel{"": sr.CompatForward, "full_transitive": sr.CompatFullTransitive, "NONE": sr.CompatNone} {
		env := map[string]string{"KRIB_SCHEMA_REGISTRY_URL": r.URL(), "KRIB_SCHEMA_COMPATIBILITY": asked}
		if code, _, errs := schemasCommand(t, env, "register"); code != 0 {
			t.Fatalf("%q ended with %d: %s", asked, code, errs)
		}
		for _, res := range cl.Compatibility(t.Context(), "booking.events-value", "krib.poison-value") {
			if res.Err != nil || res.Level != want {
				t.Errorf("%q: %s has %v, %v", asked, res.Subject, res.Level, res.Err)
			}
		}
	}
}

func TestTheRegistrysCredentialsAreSentAndNeverShown(t *testing.T) {
	const user, password = "krib", "pa55:w0rd/"
	r := registryAt(t, srfake.WithAuth("Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
	with := func(secret string) string {
		return strings.Replace(r.URL(), "http://", "http://"+user+":"+secret+"@", 1)
	}
	code, out, errs := schemasCommand(t, map[string]string{"KRIB_SCHEMA_REGISTRY_URL": with("pa55%3Aw0rd%2F")}, "register")
	if code != 0 || strings.Contains(out+errs, "w0rd") {
		t.Errorf("ended with %d: %s%s", code, out, errs)
	}
	down := registryAt(t)
	down.Close()
	for what, url := range map[string]string{
		"another password": with("wr0ngw0rd"),
		"no host":          "http://krib:w0rd@",
		"a bad port":       "http://krib:w0rd@host:port",
		"a bad escape":     "http://krib:w0rd%zz@host",
		"another scheme":   "ftp://krib:w0rd@host",
		"a query":          with("w0rd") + "?a=b",
		"nobody there":     strings.Replace(down.URL(), "http://", "http://krib:w0rd@", 1),
	} {
		code, out, errs := schemasCommand(t, map[string]string{"KRIB_SCHEMA_REGISTRY_URL": url}, "register")
		if code == 0 || strings.Contains(out+errs, "w0rd") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: ended with %d: %s%s", what, code, out, errs)
		}
	}
}

func TestWhatIsWrongWithRegisteringIsOneLine(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>"+strings.Repeat("no such page\n", 1000), http.StatusNotFound)
	}))
	defer page.Close()
	full := registryAt(t)
	full.Intercept(func(w http.ResponseWriter, req *http.Request) bool {
		if req.Method != http.MethodPost || !strings.HasSuffix(req.URL.Path, "/versions") {
			return false
		}
		w.WriteHeader(http.StatusConflict)
		_, _ = w.Write([]byte(`{"error_code":409,"message":"Schema being registered is incompatible with an earlier schema"}`))
		return true
	})
	for what, c := range map[string]struct {
		args []string
		code int
		want string
		env  map[string]string
	}{
		"no command":            {nil, 2, "say list, show or register", nil},
		"an unknown one":        {[]string{"forget"}, 2, "say list, show or register", nil},
		"no registry":           {[]string{"register"}, 2, "KRIB_SCHEMA_REGISTRY_URL: must be set", nil},
		"no such level":         {[]string{"register", "--schema-compatibility", "SOME"}, 2, `--schema-compatibility: "SOME" must be NONE, BACKWARD`, at(full.URL())},
		"no such flag":          {[]string{"register", "--registry", "x"}, 2, "registry", nil},
		"a bad ladder":          {[]string{"register", "--retry-tiers", "soon"}, 2, "--retry-tiers", at(full.URL())},
		"no registry there":     {[]string{"register"}, 1, "the registry answered 404", at(page.URL)},
		"a registry's refusal":  {[]string{"register"}, 1, "registering booking.events-value: the registry answered 409: Schema being registered is incompatible", at(full.URL())},
		"a schema that is none": {[]string{"show", "booking"}, 2, "booking-event, host-notification", nil},
	} {
		code, _, errs := schemasCommand(t, c.env, c.args...)
		line := errs[strings.LastIndex(strings.TrimSuffix(errs, "\n"), "\n")+1:]
		if code != c.code || !strings.Contains(line, c.want) || len(line) > 600 {
			t.Errorf("%s: ended with %d: %q, want %d with %q", what, code, line, c.code, c.want)
		}
	}
}

func TestSchemasAreListedByTopicAndShown(t *testing.T) {
	code, out, errs := schemasCommand(t, nil, "list", "--retry-tiers", "7s")
	if code != 0 || !strings.Contains(out, "webhook.retry.7s") || !strings.Contains(out, "https://schemas.krib.ai/v1/booking-event.json") {
		t.Errorf("list ended with %d: %s%s", code, out, errs)
	}
	want, err := schemas.Schema(schemas.SchemaFeed)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := schemasCommand(t, nil, "show", schemas.SchemaFeed); code != 0 || out != string(want) {
		t.Errorf("show ended with %d: %s", code, errs)
	}
}
