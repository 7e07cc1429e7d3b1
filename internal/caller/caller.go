// Package caller says which client sent a request, so that bounds by address count
// the client and not the proxy before it.
package caller

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

type contextKey struct{}

// With keeps an address for Of.
func With(ctx context.Context, address string) context.Context {
	return context.WithValue(ctx, contextKey{}, address)
}

// Of is the address that With kept; empty without one.
func Of(ctx context.Context) string {
	address, _ := ctx.Value(contextKey{}).(string)
	return address
}

// Address is the network that a request counts for: an IPv4 address, or the /64 of
// an IPv6 address, since one customer has 2^64 of them. X-Forwarded-For is believed
// as far as trusted proxies wrote it: from its end, the first address that is none
// of theirs is the client.
func Address(r *http.Request, trusted []netip.Prefix) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return strings.Clone(r.RemoteAddr)
	}
	peer, err := netip.ParseAddr(host)
	if err != nil {
		return strings.Clone(host)
	}
	if peer = plain(peer); !within(trusted, peer) {
		return network(peer)
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		a, ok := parseHop(hop)
		if !ok {
			break // what stands before it was not written by a proxy that writes addresses
		}
		if peer = a; !within(trusted, a) {
			break
		}
	}
	return network(peer)
}

// parseHop reads an address, which some proxies write with a port.
func parseHop(hop string) (netip.Addr, bool) {
	hop = strings.TrimSpace(hop)
	if a, err := netip.ParseAddr(strings.Trim(hop, "[]")); err == nil {
		return plain(a), true
	}
	ap, err := netip.ParseAddrPort(hop)
	return plain(ap.Addr()), err == nil
}

func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

func network(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return netip.PrefixFrom(a, 64).Masked().String()
}
