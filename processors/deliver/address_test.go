package deliver

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestOnlyPublicAddressesAreCalled(t *testing.T) {
	t.Parallel()
	for s := range strings.FieldsSeq(`
		0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254
		172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1
		203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
		:: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1
		64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8 100::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::
		2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1 4000::1`) {
		if public(netip.MustParseAddr(s)) {
			t.Errorf("%s counts as public", s)
		}
	}
	for s := range strings.FieldsSeq(`
		1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 128.0.0.1 172.15.0.1 172.32.0.1 192.0.1.1
		198.17.255.255 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::808:808 2001:200::1 2001:4860:4860::8888 2606:4700::1111 2a00::1`) {
		if !public(netip.MustParseAddr(s)) {
			t.Errorf("%s does not count as public", s)
		}
	}
}

func TestAllowedRangesAreOpened(t *testing.T) {
	t.Parallel()
	g := guard{allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}}
	for address, ok := range map[string]bool{
		"127.0.0.1:80": true, "[::ffff:127.0.0.1]:80": true, "[::1]:80": true, "10.0.0.1:80": false, "8.8.8.8:443": true, "name:80": false,
	} {
		if err := g.control("tcp", address, nil); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestURLsThatCannotBeCalledAreRefused(t *testing.T) {
	t.Parallel()
	s := &sender{}
	for _, u := range []string{
		"", "example.com", "http://example.com", "ftp://example.com", "https://", "https:example.com", "https://user:pw@example.com",
		"https://example.com:0", "https://example.com:70000", "https://exa mple.com", "https://[::1", "HTTPS://", "https://:443", "file:///etc/passwd",
	} {
		if _, err := s.target(u); err == nil || classOf(err) != "bad_url" {
			t.Errorf("%q: %v", u, err)
		} else if len(u) > 8 && strings.Contains(err.Error(), u) {
			t.Errorf("the error repeats %q", u)
		}
	}
	for _, u := range []string{"https://example.com", "https://example.com:8443/x?y=z", "HTTPS://EXAMPLE.com/", "https://[2606:4700::1111]:443"} {
		if _, err := s.target(u); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
}

// FuzzAddressParser holds that what is public by our table is neither private,
// loopback nor link-local by the standard library's, in whatever spelling.
func FuzzAddressParser(f *testing.F) {
	for _, s := range []string{"127.0.0.1:80", "[::ffff:10.0.0.1]:1", "[fe80::1%eth0]:1", "[64:ff9b::7f00:1]:1", "0x7f.1:80", "[::1]:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if (guard{}).control("tcp", address, nil) != nil {
			return
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("%q was accepted and has no host: %v", address, err)
		}
		host, _, _ = strings.Cut(host, "%")
		ip := net.ParseIP(host)
		if ip == nil || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() {
			t.Errorf("%q was accepted", address)
		}
	})
}
