package api

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// readBody reads a body within the bound of its operation and the budget of the
// process. Its room is given back when the request ends.
func readBody(r *http.Request) ([]byte, error) {
	i := infoOf(r.Context())
	most := int64(defaultBody)
	if i.operation != nil {
		most = i.operation.body
	}
	if err := readable(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > most {
		return nil, bodyError(&http.MaxBytesError{Limit: most}, most)
	}
	if size := r.ContentLength; size != 0 && i.budget != nil {
		if size < 0 {
			size = most
		}
		giveBack, err := i.budget.take(r.Context(), callerOf(r), size)
		if err != nil {
			return nil, err
		}
		i.atEnd = append(i.atEnd, giveBack)
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, most))
	if err != nil {
		return nil, bodyError(err, most)
	}
	return bytes.TrimPrefix(body, byteOrderMark), compressed(body)
}

// callerOf names the one that a body's bytes are counted for: a key, a host or, without
// credentials, an address. No id has a space.
func callerOf(r *http.Request) string {
	p := infoOf(r.Context()).principal
	if name := cmp.Or(string(p.KeyID), string(p.Host)); name != "" {
		return name
	}
	address, _, _ := net.SplitHostPort(r.RemoteAddr) // empty for all that have none
	return "address " + address
}

// settle reads what is left of a request, within the server's deadline. It comes before
// that deadline is lifted: a body that never ends would hold the connection for ever.
func settle(r *http.Request) error {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	_, err := io.Copy(io.Discard, http.MaxBytesReader(nil, r.Body, defaultBody))
	return bodyError(err, defaultBody)
}

// unhurry gives an answer d from now, where the server's own deadlines would end it in
// the middle. It is for callers that have been recognised, and comes after their body.
func unhurry(w http.ResponseWriter, r *http.Request, d time.Duration) error {
	if err := settle(r); err != nil {
		return err
	}
	c := http.NewResponseController(w) // where a deadline cannot be set there is none
	_ = c.SetReadDeadline(time.Now().Add(d))
	_ = c.SetWriteDeadline(time.Now().Add(d + writeTime))
	return nil
}

// writeTime is what a client has for taking an answer that was waited for.
const writeTime = 30 * time.Second

// bodyError is what a caller reads of an error of reading its body.
func bodyError(err error, most int64) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*http.MaxBytesError)):
		return schemas.Errorf(schemas.TooLarge, "body_too_large", "the body may have at most %d bytes", most)
	}
	return schemas.Errorf(schemas.Malformed, "incomplete_body", "the body ended early, or did not come in time")
}

// byteOrderMark may stand before JSON in UTF-8: some editors and .NET write it, and
// RFC 8259 lets readers pass it.
var byteOrderMark = []byte("\ufeff")

// readable refuses a body whose headers say that it is not plain UTF-8.
func readable(h http.Header) error {
	for coding := range strings.SplitSeq(strings.Join(h.Values("Content-Encoding"), ","), ",") {
		if coding = strings.ToLower(strings.TrimSpace(coding)); coding != "" && coding != "identity" {
			return schemas.Errorf(schemas.Unsupported, "unsupported_encoding", "bodies are not read compressed or encoded: send this one without Content-Encoding, as it is")
		}
	}
	if _, parameters, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil {
		switch strings.ToLower(parameters["charset"]) {
		case "", "utf-8", "utf8", "us-ascii", "ascii":
		default:
			return errCharset
		}
	}
	return nil
}

var errCharset = schemas.Errorf(schemas.Unsupported, "unsupported_charset", "bodies are read in UTF-8 only: send this one in UTF-8")

// compressed refuses a body that is none of JSON although no header says so, by its
// first bytes: the error of a JSON reader would hide the cause.
func compressed(body []byte) error {
	for _, magic := range []string{"\x1f\x8b", "\x28\xb5\x2f\xfd", "\x78\x01", "\x78\x5e", "\x78\x9c", "\x78\xda", "PK\x03\x04"} { // gzip, zstd, zlib, zip
		if bytes.HasPrefix(body, []byte(magic)) {
			return schemas.Errorf(schemas.Unsupported, "unsupported_encoding", "the body is compressed: send it as it is")
		}
	}
	// UTF-16 and UTF-32 begin with a mark, or have a NUL beside the first character.
	if bytes.HasPrefix(body, []byte("\xfe\xff")) || bytes.HasPrefix(body, []byte("\xff\xfe")) || len(body) > 1 && (body[0] == 0) != (body[1] == 0) {
		return errCharset
	}
	return nil
}
