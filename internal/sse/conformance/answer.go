package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// answerItems are about status and headers.
func answerItems() []Item {
	return []Item{
		{"the status is 200, and nothing is redirected", "request-status-error, request-redirect", head(func(r *http.Response) error {
			return nil // open has looked
		})},
		{"the content type is text/event-stream, in UTF-8 if it says so", "format-mime-valid-bogus, format-mime-bogus, format-mime-trailing-semicolon", head(contentType)},
		{"caches are told to keep nothing", "request-cache-control", head(func(r *http.Response) error {
			if !directive(r.Header, "no-store") && !directive(r.Header, "no-cache") {
				return fmt.Errorf("Cache-Control is %q", r.Header.Get("Cache-Control"))
			}
			return nil
		})},
		{"proxies are told to transform nothing", "RFC 9111, 5.2.2.6", head(func(r *http.Response) error {
			if !directive(r.Header, "no-transform") {
				return fmt.Errorf("Cache-Control is %q", r.Header.Get("Cache-Control"))
			}
			return nil
		})},
		{"nginx is told to hold nothing back", "X-Accel-Buffering", head(func(r *http.Response) error {
			if v := r.Header.Get("X-Accel-Buffering"); v != "no" {
				return fmt.Errorf("X-Accel-Buffering is %q", v)
			}
			return nil
		})},
		{"no length is promised", "RFC 9112, 6", head(func(r *http.Response) error {
			if r.ContentLength >= 0 {
				return fmt.Errorf("Content-Length is %d", r.ContentLength)
			}
			return nil
		})},
		{"nothing is compressed, though the client would take it", "RFC 9110, 8.4", head(func(r *http.Response) error {
			if v := r.Header.Get("Content-Encoding"); v != "" && v != "identity" {
				return fmt.Errorf("Content-Encoding is %q", v)
			}
			return nil
		}, header("Accept-Encoding", "gzip, deflate, br, zstd"))},
		{"a client that does not say what it accepts is served", "request-accept", head(contentType, header("Accept", ""))},
		{"a client that accepts anything is served", "request-accept", head(contentType, header("Accept", "*/*"))},
		{"https is served over HTTP/2 too, without headers of the connection", "RFC 9113, 8.2.2", overHTTP2},
		{"HEAD answers the headers and no body", "RFC 9110, 9.3.2", headOnly},
		{"a method that changes something is refused", "request-post-to-connect", refusedMethod},
		{"whoever may not read is refused for good, and not by an error of the server", "request-status-error", refusedForGood},
		{"a page of the origin may read the answer, with credentials or without", "request-credentials, cors-cookie.py", allowed},
		{"a page of the origin may send Last-Event-ID after a preflight", "eventsource-cross-origin-preflight, cors-unsafe-last-event-id.py", preflight},
	}
}

// head makes an item of what is looked at in the headers of a stream.
func head(look func(*http.Response) error, changes ...change) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		s, err := t.open(ctx, changes...)
		if err != nil {
			return err
		}
		defer s.close()
		return look(s.res)
	}
}

func contentType(r *http.Response) error {
	given := r.Header.Get("Content-Type")
	kind, params, err := mime.ParseMediaType(given)
	if err != nil || kind != "text/event-stream" || strings.HasSuffix(strings.TrimSpace(given), ";") {
		return fmt.Errorf("Content-Type is %q", given)
	}
	for k, v := range params {
		if k != "charset" || !strings.EqualFold(v, "utf-8") {
			return fmt.Errorf("Content-Type is %q", given)
		}
	}
	return nil
}

func directive(h http.Header, want string) bool { return listed(h.Values("Cache-Control"), want) }

// listed says whether a word is in headers that are lists.
func listed(values []string, want string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(values, ","), ","), func(v string) bool {
		return strings.EqualFold(strings.TrimSpace(v), want)
	})
}

func overHTTP2(ctx context.Context, t *Target) error {
	if !strings.HasPrefix(t.URL, "https:") {
		return ErrNotApplicable
	}
	return head(func(r *http.Response) error {
		switch {
		case r.ProtoMajor != 2:
			return fmt.Errorf("it is served over %s", r.Proto)
		case r.Header.Get("Connection") != "" || r.Header.Get("Keep-Alive") != "":
			return errors.New("a header of the connection goes with HTTP/2")
		}
		return nil
	})(ctx, t)
}

func headOnly(ctx context.Context, t *Target) error {
	s, err := t.open(ctx, method(http.MethodHead))
	if err != nil {
		return err
	}
	defer s.close()
	if b, err := io.ReadAll(s.body); err != nil || len(b) > 0 {
		return fmt.Errorf("a body of %d bytes, %w", len(b), err)
	}
	return contentType(s.res)
}

func refusedMethod(ctx context.Context, t *Target) error {
	s, err := t.ask(ctx, method(http.MethodPut))
	if err != nil {
		return err
	}
	defer s.close()
	if code := s.res.StatusCode; code < 400 || code > 499 {
		return fmt.Errorf("PUT is answered with %d", code)
	}
	return nil
}

// refusedForGood: an EventSource gives up at any status but 200, which is right
// here. What says that it is the server's fault makes others try for ever.
func refusedForGood(ctx context.Context, t *Target) error {
	if t.Header.Get("Authorization") == "" {
		return ErrNotApplicable
	}
	s, err := t.ask(ctx, header("Authorization", ""))
	if err != nil {
		return err
	}
	defer s.close()
	if code := s.res.StatusCode; code != http.StatusNoContent && (code < 400 || code > 499) {
		return fmt.Errorf("without credentials it is answered with %d", code)
	}
	return nil
}

func allowed(ctx context.Context, t *Target) error {
	if t.Origin == "" {
		return ErrNotApplicable
	}
	return head(func(r *http.Response) error { return readable(r, t.Origin) }, header("Origin", t.Origin))(ctx, t)
}

// readable: a wildcard would do for a stream without credentials only, and an
// answer for one origin must not be given to another by a cache.
func readable(r *http.Response, origin string) error {
	of := r.Header.Get("Access-Control-Allow-Origin")
	credentials := r.Header.Get("Access-Control-Allow-Credentials") == "true"
	switch {
	case of == "*" && !credentials:
		return nil
	case of != origin:
		return fmt.Errorf("Access-Control-Allow-Origin is %q", of)
	case !listed(r.Header.Values("Vary"), "Origin"):
		return errors.New("no Vary names Origin")
	}
	return nil
}

func preflight(ctx context.Context, t *Target) error {
	if t.Origin == "" {
		return ErrNotApplicable
	}
	s, err := t.ask(ctx, method(http.MethodOptions), header("Authorization", ""), header("Origin", t.Origin),
		header("Access-Control-Request-Method", "GET"), header("Access-Control-Request-Headers", "last-event-id"))
	if err != nil {
		return err
	}
	defer s.close()
	if code := s.res.StatusCode; code < 200 || code > 299 {
		return fmt.Errorf("the preflight is answered with %d", code)
	}
	if names := s.res.Header.Values("Access-Control-Allow-Headers"); !listed(names, "Last-Event-ID") && !listed(names, "*") {
		return fmt.Errorf("Access-Control-Allow-Headers is %q", names)
	}
	return readable(s.res, t.Origin)
}
