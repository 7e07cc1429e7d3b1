package schemas

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The currencies of ISO 4217, List One as SIX published it on 2026-01-01 (Bulgaria's
// lev is gone, the Caribbean guilder is there), by their minor units. Display digits
// of other tables, such as CLDR's, are what people are used to see, and are not these.
const (
	// currencies have two decimal places: what an Amount holds.
	currencies = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD " +
		"EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA " +
		"MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS " +
		"SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
	// units0, units3 and units4 have as many.
	units0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
	units3 = "BHD IQD JOD KWD LYD OMR TND"
	units4 = "CLF UYW"
	// unpayable are codes for funds, units of account, metals, tests and no currency.
	unpayable = "BOV CHE CHW COU MXV USN XAD XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX"
)

// withdrawn are codes that left the list (List Three), as far as callers may still have
// them, and when.
var withdrawn = map[string]string{
	"BGN": "on 2026-01-01", "ANG": "on 2025-03-31", "HRK": "on 2023-01-01", "LTL": "on 2015-01-01", "LVL": "on 2014-01-01", "EEK": "on 2011-01-01",
	"SKK": "on 2009-01-01", "CYP": "on 2008-01-01", "MTL": "on 2008-01-01", "SIT": "on 2007-01-01", "VEF": "on 2018-08-20", "BYR": "on 2017-01-01",
	"ZWL": "in 2024", "SLL": "in 2023", "CUC": "in 2021", "MRO": "in 2018", "STD": "in 2018", "ZMK": "in 2013", "TRL": "in 2005", "ROL": "in 2005",
	"ATS": "in 2002", "BEF": "in 2002", "DEM": "in 2002", "ESP": "in 2002", "FIM": "in 2002", "FRF": "in 2002", "GRD": "in 2002", "IEP": "in 2002",
	"ITL": "in 2002", "LUF": "in 2002", "NLG": "in 2002", "PTE": "in 2002",
}

// Currencies are the codes that amounts may be in, sorted.
func Currencies() []string { return strings.Fields(currencies) }

// CheckCurrency refuses what an amount cannot be in, and says why: a currency is an
// active one of ISO 4217 with two decimal places.
func CheckCurrency(code string) error {
	in := func(list string) bool { return slices.Contains(strings.Fields(list), code) }
	places := func(n int) error { return fmt.Errorf("must be a currency of two decimal places; %s has %d", code, n) }
	switch when := withdrawn[code]; {
	case in(currencies):
		return nil
	case in(units0):
		return places(0)
	case in(units3):
		return places(3)
	case in(units4):
		return places(4)
	case in(unpayable):
		return fmt.Errorf("must be a currency; %s is not one of payments", code)
	case when != "":
		return fmt.Errorf("must be a currency in use; %s was withdrawn %s", code, when)
	}
	return errors.New("must be a currency of ISO 4217 in capital letters, as AED")
}
