package api_test

import (
	"net/url"
	"strings"
	"testing"
)

// A mistyped filter would answer with everything.
func TestEveryOperationRefusesAParameterThatItDoesNotKnow(t *testing.T) {
	s := newSpoiler(t)
	d, err := openAPI()
	if err != nil {
		t.Fatal(err)
	}
	bodies := s.bodies()
	bound := 0
	for _, o := range operations(t) {
		body := ""
		if o.bodyName != "" {
			body = text(t, bodies[o.bodyName])
		}
		path := s.fill(o.path, map[string]string{"schema": "booking-event"})
		security, _ := d.paths[o.path][strings.ToLower(o.method)].(map[string]any)["security"].([]any)
		if len(security) == 0 {
			if r := s.send(t, &o, path+"?nonsense=1", body); strings.Contains(string(r.body), "nonsense") {
				t.Errorf("%s: answered %s", o.name, r.body)
			}
			continue
		}
		bound++
		for _, name := range []string{"nonsense", "Limit", "limit[]", "utm_source", "limit ", "a.b", "\u2028", "ref\u00e9rence", strings.Repeat("n", 60)} {
			r := s.send(t, &o, path+"?"+o.others("")+url.QueryEscape(name)+"=1", body)
			if r.refused(422, "invalid_request").fields()[name] != "unknown" {
				t.Errorf("%s?%s=1: answered %s", o.name, name, r.body)
			}
		}
		two := s.send(t, &o, path+"?b=&a&%ff=1", body).refused(422, "invalid_request").fields()
		if two["a"] != "unknown" || two["b"] != "unknown" || len(two) != 3 {
			t.Errorf("%s: of three that are unknown, names %v", o.name, two)
		}
		s.send(t, &o, path+"?%zz", body).refused(422, "invalid_query")
		if anon := (client{w: s.world}).do(o.method, path+"?nonsense=1", nil); anon.status != 401 {
			t.Errorf("%s: without credentials answered %d", o.name, anon.status)
		}
	}
	if bound < 60 {
		t.Errorf("%d operations take no unknown parameter", bound)
	}
	if r, _ := s.agent.send("HEAD", hooksPath+"?nonsense=1", nil); r.status != 422 { // without a body there is no JSON
		t.Errorf("HEAD: answered %d", r.status)
	}
}

func TestBooleansAndIntegersOfAQueryAreReadAsProgramsWriteThem(t *testing.T) {
	w := newWorld(t)
	c := w.key("admin")
	id := c.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	c.do("POST", hooksPath+"/"+id+"/toggle", nil).want(200)
	for value, n := range map[string]int{"true": 0, "True": 0, "TRUE": 0, "1": 0, "false": 1, "False": 1, "FALSE": 1, "0": 1} {
		c.do("GET", hooksPath+"?active_only="+value, nil).want(200).is("data.total_count", n)
	}
	for _, value := range []string{"yes", "on", "t", "tRue", "2", "01", "null", "true%20"} {
		if got := c.do("GET", hooksPath+"?active_only="+value, nil).refused(422, "invalid_request").fields(); got["active_only"] != "type" {
			t.Errorf("%s: %v", value, got)
		}
	}
	for _, value := range []string{"2", "2.0", "2e0", "20e-1", "0.2E1"} {
		c.do("GET", hooksPath+"?limit="+value, nil).want(200)
	}
	for _, value := range []string{"2.5", "25e-1", "two", "2,0", "0x2", "1e99999999999999999999"} {
		if got := c.do("GET", hooksPath+"?limit="+value, nil).refused(422, "invalid_request").fields(); got["limit"] != "type" {
			t.Errorf("%s: %v", value, got)
		}
	}
}

func TestABodysIntegersAreTakenAsTheSchemaHasThem(t *testing.T) {
	w := newWorld(t)
	c := w.key("admin")
	booking := text(t, stay(7))
	for i, guests := range []string{"2.0", "2e0", "0.2e1", "20.0E-1"} {
		c.do("POST", bookings, strings.Replace(text(t, stay(10+3*i)), `"guests":2`, `"guests":`+guests, 1)).want(200)
	}
	first := c.do("POST", bookings, strings.Replace(text(t, stay(40)), `"guests":2`, `"guests":2.0`, 1)).want(200).text("data.booking_id")
	c.do("GET", statusPath(first), nil).want(200).is("data.status", "pending")
	c.do("PUT", statusPath(first), `{"status":"cancelled","version":2.0}`).want(200)
	for _, guests := range []string{"2.5", "25e-1", "1e-1", `"2"`, "true", "1e400", "9223372036854775808.0"} {
		if got := c.do("POST", bookings, strings.Replace(booking, `"guests":2`, `"guests":`+guests, 1)).refused(422, "invalid_request").fields(); got["guests"] != "type" {
			t.Errorf("%s: %v", guests, got)
		}
	}
	m := c.model()
	m.call("search_properties", map[string]any{"limit": 2.0}).want(200)
	m.refuses("search_properties", map[string]any{"limit": 2.5}, 422, "invalid_request")
}

// A client that does not escape the plus of a time zone sends a space.
func TestAPlusThatBecameASpaceIsNamedAsTheCause(t *testing.T) {
	w := newWorld(t)
	c, owner := w.key("admin"), w.host(hostOne)
	id := c.do("POST", hooksPath, hook("https://a.example")).want(200).text("data.id")
	for path, hinted := range map[string]bool{
		"/api/v1/external/events?since=2026-03-01T00:00:00+04:00":            true,
		"/api/v1/external/events?since=2026-03-01T00:00:00 04:00":            false, // the client's own space
		"/api/v1/external/events?since=2026-03-01+00:00":                     true,
		"/api/v1/external/events/stream?since=2026-03-01T00:00:00+04:00":     true,
		hooksPath + "/" + id + "/deliveries?until=2026-03-01T00:00:00+05:30": true,
		hooksPath + "/" + id + "/attempts?since=2026-03-01T00:00:00.5+00:00": true,
		hooksPath + "?limit=+5":   true,
		hooksPath + "?limit=five": false,
		"/api/v1/properties/search?check_in=2026-06-01+04:00&check_out=2026-06-03": true,
		"/api/v1/properties/search?latitude=+25&longitude=55":                      true,
	} {
		r := c.do("GET", strings.ReplaceAll(path, " 04", "%2004"), nil).refused(422, "invalid_request")
		if strings.Contains(string(r.body), "%2B") != hinted {
			t.Errorf("%s: answered %s", path, r.body)
		}
	}
	if r := owner.do("GET", inbox(hostOne)+"?created_from=2026-03-01T00:00:00+01:00", nil).want(422); !strings.Contains(string(r.body), "%2B") {
		t.Errorf("answered %s", r.body)
	}
	owner.do("GET", inbox(hostOne)+"?created_from=2026-03-01T00:00:00%2B01:00", nil).want(200)
}
