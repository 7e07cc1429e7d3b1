package mcp

import (
	"bytes"
	"maps"
	"net/http"
	"strings"
)

// An Answer is one of HTTP in memory: what the API has answered to a call, or this
// package to a message.
type Answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// NewAnswer makes an empty one.
func NewAnswer() *Answer { return &Answer{header: http.Header{}} }

// Header is what http.ResponseWriter wants.
func (a *Answer) Header() http.Header { return a.header }

// WriteHeader keeps the first status that is not informational.
func (a *Answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
}

// Write begins with 200 what has no status.
func (a *Answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// Refusal is the text of an answer of 400 and more that is plain text. The library
// refuses so what is no message to it.
func (a *Answer) Refusal() (string, bool) {
	if a.status < http.StatusBadRequest || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		return "", false
	}
	return strings.TrimSpace(a.body.String()), true
}

// WriteTo sends it.
func (a *Answer) WriteTo(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	if a.body.Len() > 0 {
		_, _ = w.Write(a.body.Bytes()) // a client that left reads nothing
	}
}

func (a *Answer) replace(body []byte) {
	a.header.Del("Content-Length")
	a.body.Reset()
	_, _ = a.body.Write(body) // never fails
}
