package deliver

// Sentences are all that an attempt's error can be.
var Sentences = []string{
	sayNoHost, sayNameLate, sayNameFailed, sayRefused, sayBadURL, sayOurs, sayConnectLate, sayTLSLate, sayLate, sayConnRefused, sayConnReset, sayUnreachable,
	sayConnFailed, sayAuthority, sayOtherName, sayExpired, sayCertificate, sayNoTLS, sayTLS, sayClosed, sayHeaders, sayNotHTTP, sayTornBody, sayEndlessBody,
}
