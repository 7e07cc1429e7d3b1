// Package webhook is the grammar of webhook URLs: what a caller may write, and the
// one form in which a URL is stored, shown and sent.
//
// The grammar is that of the WHATWG URL standard, and stricter where that standard
// guesses: what browsers repair without a word (a backslash, a line break, a missing
// slash, a % that escapes nothing) is refused, because a receiver that gets no events
// is noticed later than an error.
package webhook

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxURL is how many bytes a URL may have, as it is written and as it is sent.
// Servers commonly take 8 KB for a request line and all headers together.
const MaxURL = 2048

// A URLError says which rule of the grammar a URL breaks. It does not repeat the
// URL, which may hold a secret.
type URLError struct {
	// Rule is one word of a closed set: length, control, space, format, scheme,
	// backslash, userinfo, host, port, fragment, escape.
	Rule string
	text string
}

// Error is the predicate of a sentence whose subject is the URL's field.
func (e *URLError) Error() string { return e.text }

// ParseURL reads what a caller writes. The String of the result is the one form:
// scheme and host in lower case, an international host in Punycode, no port where
// it is the scheme's own, no dot segments, and everything that RFC 3986 does not
// allow in a path or query escaped as UTF-8. Escapes that are there are kept as
// they are. Parsing that form again returns it unchanged.
//
// Errors are of type [*URLError].
func ParseURL(s string) (*url.URL, error) { return parse(s, true) }

// StoredURL reads a URL that was accepted before this grammar. It differs from
// [ParseURL] in two things, which were accepted and did reach receivers: a % in the
// query that escapes nothing is left as it is, and a host may end in a dot.
func StoredURL(s string) (*url.URL, error) { return parse(s, false) }

// Shown is the form in which a stored URL is sent, for answers and bodies. What
// cannot be parsed is shown as it is.
func Shown(stored string) string {
	u, err := StoredURL(stored)
	if err != nil {
		return stored
	}
	return u.String()
}

// Origin is what of a stored URL may stand in a log: its scheme, host and port. Paths
// and queries hold secrets. It is empty for what cannot be parsed.
func Origin(stored string) string {
	u, err := StoredURL(stored)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// FormerURL is the form in which versions before this grammar stored a URL, so that
// a subscription of theirs is found again; it is empty for what they refused.
func FormerURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return ""
	}
	u.Host = strings.ToLower(u.Host)
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String()
}

func parse(s string, strict bool) (*url.URL, error) {
	if err := checkText(s); err != nil {
		return nil, err
	}
	scheme, rest, ok := strings.Cut(s, "://")
	scheme = strings.ToLower(scheme)
	switch {
	case !ok || scheme == "" || strings.ContainsAny(scheme, "/?#"):
		return nil, &URLError{"format", "must be an absolute URL, which begins with https:// and a host"}
	case scheme != "https" && scheme != "http":
		return nil, &URLError{"scheme", "must begin with https://"}
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	if fragment != "" {
		return nil, &URLError{"fragment", "must not have a fragment, which no request carries; write a # itself as %23"}
	}
	before, query, hasQuery := strings.Cut(rest, "?")
	if strings.Contains(before, `\`) {
		return nil, &URLError{"backslash", `must not have a \ before the query, which programs read differently; write it as %5C`}
	}
	authority, path := before, "/"
	if i := strings.IndexByte(before, '/'); i >= 0 {
		authority, path = before[:i], before[i:]
	}
	host, err := hostOf(authority, scheme, strict)
	if err != nil {
		return nil, err
	}
	if !escaped(path) || strict && !escaped(query) {
		return nil, &URLError{"escape", "must not have a % without two hexadecimal digits behind it; write a % itself as %25"}
	}
	out := scheme + "://" + host + withoutDots(escape(path, pathBytes))
	if hasQuery {
		out += "?" + escape(query, queryBytes)
	}
	if strict && len(out) > MaxURL {
		return nil, &URLError{"length", "must have at most " + strconv.Itoa(MaxURL) + " characters, escapes included"}
	}
	u, err := url.Parse(out)
	if err != nil {
		return nil, &URLError{"format", "must be a URL that can be called"} // not err, which repeats the URL
	}
	return u, nil
}

// checkText refuses what is no line of text, and what was copied with its margin.
func checkText(s string) error {
	switch {
	case len(s) > MaxURL:
		return &URLError{"length", "must have at most " + strconv.Itoa(MaxURL) + " characters, escapes included"}
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return &URLError{"control", "must not hold control characters, tabs or line breaks"}
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	if blank(first) || blank(last) {
		return &URLError{"space", "must not begin or end with a space, or with a character that cannot be seen"}
	}
	return nil
}

func blank(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// lookup maps as browsers do (UTS 46, without transitional mapping). It refuses what
// no resolver could look up; which ASCII characters a label may have is hostBytes'
// matter, for names with an underscore exist.
var lookup = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.CheckHyphens(false), idna.VerifyDNSLength(true))

func hostOf(authority, scheme string, strict bool) (string, error) {
	if strings.Contains(authority, "@") {
		return "", &URLError{"userinfo", "must not hold a user or password"}
	}
	host, port := authority, ""
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
	}
	if host == "" {
		return "", &URLError{"host", "must name a host"}
	}
	host, err := nameOf(host, strict)
	if err != nil {
		return "", err
	}
	if port == "" {
		return host, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", &URLError{"port", "must name a port from 1 to 65535, or none"}
	}
	if scheme == "https" && n == 443 || scheme == "http" && n == 80 {
		return host, nil
	}
	return host + ":" + strconv.FormatUint(n, 10), nil
}

// nameOf is a host in its one form.
func nameOf(host string, strict bool) (string, error) {
	bad := &URLError{"host", "must name a host that can be looked up"}
	if strings.HasPrefix(host, "[") {
		a, err := netip.ParseAddr(strings.TrimSuffix(host[1:], "]"))
		switch {
		case err != nil || !a.Is6() || !strings.HasSuffix(host, "]"):
			return "", &URLError{"host", "must name an IPv6 address in its usual form between [ and ]"}
		case a.Zone() != "":
			return "", &URLError{"host", "must not name an IPv6 address with a zone"}
		}
		return "[" + a.String() + "]", nil
	}
	plain, err := url.PathUnescape(host)
	if err != nil || !utf8.ValidString(plain) {
		return "", bad
	}
	bare, dotted := strings.CutSuffix(plain, ".")
	ascii, err := lookup.ToASCII(bare)
	if err != nil || ascii == "" || strings.ContainsFunc(ascii, notOfHost) {
		return "", bad
	}
	if dotted || strings.HasSuffix(ascii, ".") {
		if strict {
			return "", &URLError{"host", "must name its host without a dot at the end"}
		}
		ascii = strings.TrimSuffix(ascii, ".") + "."
	}
	// Resolvers read 2130706433, 0x7f.1 and 127.1 as addresses.
	if last := ascii[strings.LastIndexByte(strings.TrimSuffix(ascii, "."), '.')+1:]; number(strings.TrimSuffix(last, ".")) {
		if a, err := netip.ParseAddr(ascii); err != nil || !a.Is4() {
			return "", &URLError{"host", "must write an IPv4 address as four decimal numbers from 0 to 255"}
		}
	}
	return ascii, nil
}

func notOfHost(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}

// number says that a label makes a host an address, as the URL standard has it: it is
// digits only, or hexadecimal behind 0x.
func number(label string) bool {
	if hex, ok := strings.CutPrefix(label, "0x"); ok {
		return !strings.ContainsFunc(hex, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
	}
	return label != "" && !strings.ContainsFunc(label, func(r rune) bool { return r < '0' || r > '9' })
}

// pathBytes and queryBytes are what RFC 3986 allows there beside letters and digits,
// and the brackets, which all parsers take and frameworks name parameters with.
const (
	pathBytes  = "-._~!$&'()*+,;=:@/[]%"
	queryBytes = pathBytes + "?"
)

// escape writes each byte that is neither a letter, a digit nor one of allowed as an
// escape. A % stands for itself.
func escape(s, allowed string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(allowed, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', hex[c>>4], hex[c&15]})
	}
	return b.String()
}

// escaped says that every % has two hexadecimal digits behind it.
func escaped(s string) bool {
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return true
		}
		if s = s[i+1:]; len(s) < 2 {
			return false
		}
		if _, err := strconv.ParseUint(s[:2], 16, 8); err != nil {
			return false
		}
	}
}

// withoutDots resolves the segments . and .. of a path, escaped ones too, as clients
// of HTTP do. Empty segments stay.
func withoutDots(path string) string {
	segments := strings.Split(path[1:], "/")
	out := segments[:0:0]
	for i, s := range segments {
		last := i == len(segments)-1
		switch strings.ReplaceAll(strings.ToLower(s), "%2e", ".") {
		case ".":
		case "..":
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, s)
			continue
		}
		if last {
			out = append(out, "") // it names a folder
		}
	}
	return "/" + strings.Join(out, "/")
}
