package api

import (
	"cmp"
	"errors"
	"net/mail"
	"strconv"
	"strings"
	"unicode"

	"github.com/nyaruka/phonenumbers"
	"golang.org/x/net/idna"
)

// invisible says whether a character shows nothing where it stands: format characters
// (zero widths, joiners, directions, the byte order mark), and the fillers and
// selectors that Unicode says are to be ignored in display.
func invisible(c rune) bool {
	return unicode.In(c, unicode.Cf, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) ||
		c == '\u2800' // a braille pattern without dots
}

// turns says whether a character changes the direction of the text behind it, past the
// end of what it stands in.
func turns(c rune) bool { return c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069' }

// checkName takes the name of a person: people see it, so some of it can be seen, and
// it leaves the direction of the text around it alone. Joiners within it are letters'
// business (Persian, Malayalam) and stay.
func checkName(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "" // where a name may be left out
	case strings.ContainsFunc(s, turns):
		return "must not hold characters that turn the direction of text"
	case !strings.ContainsFunc(s, func(c rune) bool { return !invisible(c) && !unicode.IsSpace(c) && !unicode.IsMark(c) }):
		return "must have a character that can be seen"
	}
	return ""
}

const emailForm = "must be an e-mail address, as name@example.com"

// checkEmail takes an address that mail can be sent to over the internet: RFC 5321's
// mailbox, quoted local parts included, at a domain that has a dot; its name may be in
// other letters than ASCII's.
func checkEmail(s string) string {
	a, err := mail.ParseAddress("<" + s + ">")
	switch at := strings.LastIndexByte(s, '@'); {
	case strings.ContainsFunc(s, invisible):
		return "must not hold characters that cannot be seen"
	case len(s) > 254:
		return "must have at most 254 bytes"
	case at > 64:
		return "must have at most 64 bytes before its @"
	case err != nil || at < 1 || !mailbox(s, a.Address):
		return emailForm
	default:
		return checkDomain(s[at+1:])
	}
}

// mailbox says whether s is the address that was read from it, with nothing around it:
// as it is, or with its local part quoted.
func mailbox(s, address string) bool {
	at := strings.LastIndexByte(address, '@')
	quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(address[:at]) + `"` + address[at:]
	return s == address || s == quoted
}

// domains are IDNA 2008's, as a resolver takes them.
var domains = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.ValidateLabels(true), idna.StrictDomainName(true), idna.VerifyDNSLength(true))

func checkDomain(s string) string {
	ascii, err := domains.ToASCII(s)
	if err != nil || strings.HasSuffix(s, ".") {
		return "must have a domain after its @, as example.com"
	}
	top := ascii[strings.LastIndexByte(ascii, '.')+1:]
	if top == ascii || strings.Trim(top, "0123456789") == "" || len(top) < 2 {
		return "must have a whole domain after its @, as example.com"
	}
	return ""
}

// checkPhone lets through what could be a number; parsePhone knows the countries.
func checkPhone(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return c > ' ' && invisible(c) }) || !strings.ContainsFunc(s, unicode.IsDigit) {
		return notPhone
	}
	return ""
}

const notPhone = "must be a telephone number, as +971 50 123 4567"

// A phone is a number as a booking keeps it: what stands after the country code,
// without the zero or the like that is dialled at home, and with x before an extension.
type phone struct {
	country, national string
}

// defaultCountryCode is that of the contract's market.
const defaultCountryCode = "971"

// parsePhone reads a number as people write it: at home, with its country code, or
// with what is dialled before one; in any script's digits, with letters for digits, and
// with an extension. The code that stands in a number must be the one that is given
// beside it. field is the one to blame for the message. What numbers there are is
// libphonenumber's metadata, of the version of the module in go.mod.
func parsePhone(country, number string) (p phone, field, message string) {
	code := cmp.Or(strings.TrimPrefix(country, "+"), defaultCountryCode)
	calling, _ := strconv.Atoi(code) // checkCountryCode lets digits through only
	region := phonenumbers.GetRegionCodeForCountryCode(calling)
	if region == phonenumbers.UNKNOWN_REGION {
		return phone{}, "country_code", "must be a country code as +971"
	}
	n, err := phonenumbers.Parse(number, region)
	switch {
	case errors.Is(err, phonenumbers.ErrInvalidCountryCode):
		return phone{}, "phone", "must begin with a country code that exists, as +971"
	case err != nil:
		return phone{}, "phone", notPhone
	}
	withoutOldPrefix(n)
	if country != "" && int(n.GetCountryCode()) != calling {
		return phone{}, "phone", "must be a number of country_code, +" + code + ", and is one of +" + strconv.Itoa(int(n.GetCountryCode()))
	}
	if message := assigned(n); message != "" {
		return phone{}, "phone", message
	}
	p = phone{"+" + strconv.Itoa(int(n.GetCountryCode())), phonenumbers.GetNationalSignificantNumber(n)}
	if x := n.GetExtension(); x != "" {
		p.national += "x" + x
	}
	return p, "", ""
}

// withoutOldPrefix takes away the 1 that was dialled before Mexican mobile numbers from
// abroad until August 2019, and that is in address books still.
func withoutOldPrefix(n *phonenumbers.PhoneNumber) {
	const mexico, withPrefix = 52, 10_000_000_000
	if n.GetCountryCode() == mexico && n.GetNationalNumber()/withPrefix == 1 {
		rest := n.GetNationalNumber() % withPrefix
		n.NationalNumber = &rest
	}
}

// assigned says what is wrong with a number, by the numbering plan of the country whose
// code it has.
func assigned(n *phonenumbers.PhoneNumber) string {
	of := "number of +" + strconv.Itoa(int(n.GetCountryCode()))
	switch phonenumbers.IsPossibleNumberWithReason(n) {
	case phonenumbers.TOO_SHORT, phonenumbers.IS_POSSIBLE_LOCAL_ONLY:
		return "is too short for a " + of
	case phonenumbers.TOO_LONG:
		return "is too long for a " + of
	default: // the plan of the country says more
	}
	if !phonenumbers.IsValidNumber(n) {
		return "is no " + of + " that is given out"
	}
	return ""
}

func checkCountryCode(s string) string {
	digits := strings.TrimPrefix(s, "+")
	if digits == "" || len(digits) > 4 || strings.Trim(digits, "0123456789") != "" {
		return "must be a country code as +971"
	}
	return ""
}
