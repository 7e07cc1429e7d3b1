package api_test

import (
	"net/http"
	"strconv"
	"testing"

	"github.com/krib-ai/krib/api"
)

// slow gives nothing back while a test lasts.
func slow(burst int) api.Rate { return api.Rate{PerSecond: 0.01, Burst: burst} }

func TestAHostsReadsAndWritesAreLimitedApart(t *testing.T) {
	w := newWorld(t, func(o *api.Options) { o.HostReads, o.HostWrites = slow(3), slow(2) })
	one, two := w.host(hostOne), w.host(hostTwo)
	mine := "/api/v1/hosts/" + string(hostOne)
	// Every route counts, also where it refuses.
	for i, do := range []func() reply{
		func() reply { return one.do(http.MethodPut, mine+"/settings", "{") },
		func() reply {
			return one.do(http.MethodPost, mine+"/notifications/read", `{"notification_ids": ["x"]}`)
		},
	} {
		h := do().header
		if h.Get("RateLimit-Limit") != "2" || h.Get("RateLimit-Remaining") != strconv.Itoa(1-i) || h.Get("RateLimit-Reset") == "" || h.Get("Retry-After") != "" {
			t.Errorf("write %d: headers %v", i, h)
		}
	}
	for _, write := range [][2]string{
		{http.MethodPut, "/properties/mine"},
		{http.MethodPost, "/events/ticket"},
		{http.MethodPut, "/notifications/read-all"},
		{http.MethodPost, "/bookings/none/confirm"},
		{http.MethodDelete, "/notifications/none"},
	} {
		h := one.do(write[0], mine+write[1], nil).refused(http.StatusTooManyRequests, "rate_limited").header
		if after, err := strconv.Atoi(h.Get("Retry-After")); err != nil || after < 1 || after > 100 || h.Get("RateLimit-Remaining") != "0" {
			t.Errorf("%v: headers %v", write, h)
		}
	}
	for _, path := range []string{mine + "/bookings", mine + "/properties", inbox(hostOne)} {
		one.do(http.MethodGet, path, nil).want(http.StatusOK)
	}
	for _, path := range []string{mine + "/properties/none", inbox(hostOne) + "/count", "/api/v1/sse/statistics"} {
		one.do(http.MethodGet, path, nil).refused(http.StatusTooManyRequests, "rate_limited")
	}
	// An EventSource would never come back after a status of its own.
	if r := one.do(http.MethodGet, mine+"/events", nil).want(http.StatusOK); string(r.body) != "refused host_one: the host opens too many streams" {
		t.Errorf("the stream answers %s", r.body)
	}
	if r, _ := one.send(http.MethodHead, mine+"/bookings", nil); r.status != http.StatusTooManyRequests { // its body, which is none, cannot be read as JSON
		t.Errorf("HEAD answers %d", r.status)
	}
	two.do(http.MethodGet, "/api/v1/hosts/"+string(hostTwo)+"/bookings", nil).want(http.StatusOK)
	two.do(http.MethodPut, "/api/v1/hosts/"+string(hostTwo)+"/notifications/read-all", nil).want(http.StatusOK)
}

// A path of another host counts too: a token cannot try paths without end.
func TestAHostPaysForThePathsOfOthers(t *testing.T) {
	w := newWorld(t, func(o *api.Options) { o.HostReads = slow(1) })
	one := w.host(hostOne)
	one.do(http.MethodGet, inbox(hostTwo), nil).refused(http.StatusForbidden, "not_your_host")
	one.do(http.MethodGet, inbox(hostTwo), nil).refused(http.StatusTooManyRequests, "rate_limited")
}

func TestAKeyOfThePlatformHasNoRateLimit(t *testing.T) {
	w := newWorld(t)
	c, plain := w.key("platform", "admin"), w.key("admin")
	w.exec(`update api_keys set rate_limit_per_minute = 1`)
	for range 4 {
		if h := c.do(http.MethodGet, hooksPath, nil).want(http.StatusOK).header; h.Get("RateLimit-Limit") != "" {
			t.Errorf("headers %v", h)
		}
	}
	plain.do(http.MethodGet, hooksPath, nil).want(http.StatusOK)
	plain.do(http.MethodGet, hooksPath, nil).refused(http.StatusTooManyRequests, "rate_limited")
}
