package deliver

import "net/netip"

// Callable says whether the dialer would call an address: a public one, or one
// of the allowed ranges. Whoever takes a URL that names an address literally can
// refuse it before a delivery has to.
func Callable(a netip.Addr, allow []netip.Prefix) bool {
	return guard{allow}.check(a) == nil
}
