package deliver

import (
	"fmt"
	"net/netip"
	"syscall"
)

// A refusedError says that we do not call an address, whoever's name led there.
// It does not say which: subscribers read it, and a name that only our resolver
// knows would tell them where it leads.
type refusedError struct{}

func (*refusedError) Error() string { return "the address is not public" }

func prefixes(ss ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(ss))
	for i, s := range ss {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}

var (
	// closed4 is what of IPv4 is not the public internet (IANA's special-purpose
	// registry), and one metadata service that hides among public addresses.
	closed4 = prefixes(
		"0.0.0.0/8",        // this network; Linux dials 0.0.0.0 as loopback
		"10.0.0.0/8",       // private
		"100.64.0.0/10",    // carrier NAT; Alibaba's metadata service
		"127.0.0.0/8",      // loopback
		"168.63.129.16/32", // Azure's host agent
		"169.254.0.0/16",   // link-local; nearly every cloud's metadata service
		"172.16.0.0/12",    // private
		"192.0.0.0/24",     // protocol assignments; Oracle's metadata service
		"192.0.2.0/24",     // documentation
		"192.88.99.0/24",   // 6to4 relays
		"192.168.0.0/16",   // private
		"198.18.0.0/15",    // benchmarks
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, broadcast
	)
	// global6 is what IANA gives out for the public internet. Everything outside is
	// refused without being listed: loopback, unspecified, unique local, link-local
	// and site-local, multicast, 64:ff9b:1::/48, 100::/64, 5f00::/16,
	// IPv4-compatible and -translated addresses, and what is not invented yet.
	global6 = netip.MustParsePrefix("2000::/3")
	// closed6 is what of global6 is not public, or leads to an IPv4 address that we
	// cannot see the routing of.
	closed6 = prefixes(
		"2001::/23",     // protocol assignments: Teredo, ORCHID, benchmarks
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4
		"3fff::/20",     // documentation
	)
	// nat64 holds an IPv4 address in its last four bytes, and a network without IPv4
	// reaches the whole IPv4 internet through it.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// public says whether an address is one that a stranger may make us call.
func public(a netip.Addr) bool {
	a = a.WithZone("").Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	if a.Is4() {
		return !within(a, closed4)
	}
	return global6.Contains(a) && !within(a, closed6)
}

func within(a netip.Addr, ps []netip.Prefix) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// A guard refuses connections at the last moment: it sees the address that is
// dialled, after DNS. Checking the name earlier would leave the time between the
// check and the dial, in which the name may come to mean another address.
type guard struct{ allow []netip.Prefix }

// control is a net.Dialer's Control.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("reading the dialled address: %w", err)
	}
	return g.check(ap.Addr())
}

func (g guard) check(a netip.Addr) error {
	if public(a) || within(a.WithZone("").Unmap(), g.allow) {
		return nil
	}
	return &refusedError{}
}
