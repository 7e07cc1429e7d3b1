package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// formatItems are about the bytes of what is sent.
func formatItems() []Item {
	return []Item{
		{"there is no byte order mark", "format-bom, format-bom-2", each(func(e *event) error {
			return unless(!bytes.Contains(e.raw, []byte("\uFEFF")), "there is one")
		})},
		{"lines end with LF alone", "format-newlines", each(func(e *event) error {
			return unless(!bytes.ContainsRune(e.raw, '\r'), "there is a CR")
		})},
		{"everything is UTF-8", "format-utf-8", each(func(e *event) error { return unless(utf8.Valid(e.raw), "it is not") })},
		{"there is no NUL", "format-null-character, format-field-id-null", each(func(e *event) error {
			return unless(bytes.IndexByte(e.raw, 0) < 0, "there is one")
		})},
		{"every line is a field of the standard or a comment", "format-field-unknown, format-comments", lines(func(name, _ string) error {
			return unless(strings.Contains("|id|event|data|retry||", "|"+name+"|"), "it is neither")
		})},
		{"a retry is digits", "format-field-retry, format-field-retry-bogus, format-field-retry-empty", lines(func(name, value string) error {
			return unless(name != "retry" || digits(value), "it is not")
		})},
		{"the name of an event is not empty", "format-field-event-empty", lines(func(name, value string) error {
			return unless(name != "event" || value != "", "it is")
		})},
		{"an id is not empty: that would take the position away", "format-field-id-2, format-field-id-3", each(func(e *event) error {
			return unless(!e.hasID || e.id != "", "it is")
		})},
		{"an id needs no preflight: 128 bytes at most, and none that is unsafe", "eventsource-cross-origin-preflight", each(safe)},
		{
			"every event that has an id or a name has data: without, it is dispatched to nobody", "format-field-event, format-data-before-final-empty-line",
			each(func(e *event) error { return unless(e.hasData || !e.hasID && e.name == "", "it has none") }),
		},
		{"every event has an id, so that nothing is behind no position", "format-field-id", each(func(e *event) error {
			return unless(!e.hasData || e.hasID, "it has none")
		})},
		{"what happens has a position of its own", "format-field-id", distinct},
		{"line ends and spaces of what is published survive", "format-field-data, format-leading-space, format-newlines", verbatim},
	}
}

func unless(ok bool, what string) error {
	if ok {
		return nil
	}
	return errors.New(what)
}

// each makes an item of what is looked at in every block of the sample.
func each(look func(*event) error) func(context.Context, *Target) error {
	return func(ctx context.Context, t *Target) error {
		s, err := t.sample(ctx)
		if err != nil {
			return err
		}
		for _, e := range s.all {
			if err := look(e); err != nil {
				return fmt.Errorf("%w: %q", err, e.raw)
			}
		}
		return nil
	}
}

// lines makes an item of what is looked at in every line. A comment has no name.
func lines(look func(name, value string) error) func(context.Context, *Target) error {
	return each(func(e *event) error {
		for _, line := range e.lines {
			name, value, _ := strings.Cut(strings.TrimPrefix(string(line), "\uFEFF"), ":")
			if err := look(name, strings.TrimPrefix(value, " ")); err != nil {
				return err
			}
		}
		return nil
	})
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// maxUnpreflighted is how long a header's value may be that a page may send to
// another origin unasked.
const maxUnpreflighted = 128

// safe is what Fetch calls the unsafe request-header bytes, turned around; and what
// is not ASCII becomes something else on its way through a header.
func safe(e *event) error {
	if len(e.id) > maxUnpreflighted {
		return fmt.Errorf("it has %d bytes", len(e.id))
	}
	for _, c := range []byte(e.id) {
		if c < 0x20 || c > 0x7e || strings.IndexByte("\"():<>?@[\\]{}", c) >= 0 {
			return fmt.Errorf("it holds %q", c)
		}
	}
	return nil
}

func distinct(ctx context.Context, t *Target) error {
	s, err := t.sample(ctx)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range s.the {
		if seen[e.id] {
			return fmt.Errorf("two have the id %q", e.id)
		}
		seen[e.id] = true
	}
	return nil
}

func verbatim(ctx context.Context, t *Target) error {
	if t.Publish == nil || !t.Verbatim {
		return ErrNotApplicable
	}
	s, err := t.sample(ctx)
	if err != nil {
		return err
	}
	for i, e := range s.the {
		if want := fmt.Sprint(nasty, i); !holds(e.data, want) {
			return fmt.Errorf("%q is not in %q", want, e.data)
		}
	}
	return nil
}

// holds looks for a text: as a string somewhere in JSON, or as the data itself, in
// which every line end has become LF.
func holds(data, text string) bool {
	var v any
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		return data == strings.ReplaceAll(text, "\r\n", "\n")
	}
	return within(v, text)
}

func within(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return v == text
	case []any:
		for _, e := range v {
			if within(e, text) {
				return true
			}
		}
	case map[string]any:
		for _, e := range v {
			if within(e, text) {
				return true
			}
		}
	}
	return false
}
