package caller_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/krib-ai/krib/internal/caller"
)

func TestTheClientIsTheLastAddressThatNoTrustedProxyHas(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"a peer that is no proxy", "203.0.113.9:4711", []string{"198.51.100.1"}, "203.0.113.9"},
		{"behind one proxy", "10.1.2.3:80", []string{"198.51.100.1"}, "198.51.100.1"},
		{"an address that the client wrote itself", "10.1.2.3:80", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.1.2.3:80", []string{"198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"two headers", "10.1.2.3:80", []string{"1.1.1.1", "198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"no header", "10.1.2.3:80", nil, "10.1.2.3"},
		{"a header of nonsense", "10.1.2.3:80", []string{"198.51.100.1, unknown"}, "10.1.2.3"},
		{"an address with a port", "10.1.2.3:80", []string{"198.51.100.1:5050"}, "198.51.100.1"},
		{"IPv6", "[2001:db8:1:2:aaaa::1]:443", nil, "2001:db8:1:2::/64"},
		{"IPv6 behind a proxy", "[fd00::1]:443", []string{"[2001:db8:1:2:ffff::7]:9"}, "2001:db8:1:2::/64"},
		{"IPv4 in IPv6", "[::ffff:10.1.2.3]:443", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"no address at all", "@", nil, "@"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := caller.Address(r, proxies); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
