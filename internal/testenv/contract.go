package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	"github.com/pb33f/libopenapi-validator/helpers"
)

// A Contract is an OpenAPI document that answers are held to: the status is one
// of the operation's, and so is the type, the body is valid, and has no member
// that the document does not name. The document itself is valid OpenAPI 3.1.
type Contract struct {
	strict validator.Validator
	lax    validator.Validator // for what is a document of another kind
	valid  *skeletons
}

// open are members whose own are not named: they are the caller's, or are named
// by what is counted. The validator does not see that an old key is a key, too.
var open = []string{
	"$.body.event.**", "$.body.data.notifications_by_type.*", "$.body.data.notifications_by_priority.*",
	"$.body.data.resumes.*", "$.body.data.disconnects.*", "$.body.data.replaced.**", "$.body.result.**", "$.body.error.**",
}

// NewContract reads a document.
func NewContract(document []byte) (*Contract, error) {
	doc, err := libopenapi.NewDocument(document)
	if err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	assert := []config.Option{config.WithFormatAssertions(), config.WithContentAssertions()}
	lax, errs := validator.NewValidator(doc, assert...)
	strict, more := validator.NewValidator(doc, append(assert, config.WithStrictMode(), config.WithStrictIgnorePaths(open...))...)
	if err := errors.Join(append(errs, more...)...); err != nil {
		return nil, fmt.Errorf("reading the OpenAPI document: %w", err)
	}
	if ok, wrong := lax.ValidateDocument(); !ok {
		return nil, fmt.Errorf("the document is no OpenAPI: %v", wrong)
	}
	return &Contract{strict, lax, newSkeletons()}, nil
}

// Through is a transport that holds every answer to the contract and reports
// what breaks it. Bodies of streams are not looked at.
func (c *Contract) Through(next http.RoundTripper, report func(*http.Request, error)) http.RoundTripper {
	return held{c, next, report}
}

type held struct {
	*Contract
	next   http.RoundTripper
	report func(*http.Request, error)
}

// CloseIdleConnections is for http.Client and httptest.Server.
func (h held) CloseIdleConnections() {
	if c, ok := h.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (h held) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := h.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	var body []byte
	var torn error // met by the caller, as it would have been
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		body, torn = io.ReadAll(res.Body)
		_ = res.Body.Close()
		res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), end{torn}))
	}
	if torn == nil {
		if err := h.check(req, res, body); err != nil {
			h.report(req, fmt.Errorf("%s %s: %w\n%s", req.Method, req.URL.Path, err, body))
		}
	}
	return res, nil
}

// end is that of a body: nothing, or what went wrong.
type end struct{ err error }

func (e end) Read([]byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	return 0, io.EOF
}

// check holds one answer to its operation. What is no operation is answered 404,
// 405, or to a browser that asks beforehand; pages are no part of the API.
func (c *Contract) check(req *http.Request, res *http.Response, body []byte) error {
	if req.Method == http.MethodOptions {
		return nil
	}
	like := c.valid.of(req, res, body)
	if c.valid.known(like) {
		return nil
	}
	of := &http.Response{StatusCode: res.StatusCode, Header: res.Header, Body: io.NopCloser(bytes.NewReader(body)), Request: req}
	v := c.strict
	if strings.HasSuffix(req.URL.Path, ".json") {
		v = c.lax
	}
	ok, wrong := v.ValidateHttpResponse(req, of)
	if ok {
		c.valid.add(like)
		return nil
	}
	var out []error
	for _, w := range wrong {
		unknown := w.ValidationType == helpers.PathValidation || w.ValidationSubType == helpers.ValidationMissingOperation
		if unknown && (res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusMethodNotAllowed || !strings.Contains(res.Header.Get("Content-Type"), "json")) {
			return nil
		}
		out = append(out, w)
	}
	return fmt.Errorf("%d: %w", res.StatusCode, errors.Join(out...))
}
