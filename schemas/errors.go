package schemas

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what an error means to the caller; package api turns it into a
// status code and nothing else does.
type Kind int

// The kinds of error. The zero value is Internal, so an error that nobody
// classified never leaks its text.
const (
	Internal     Kind = iota
	Malformed         // the request cannot be read as what it should be
	Rule              // a rule on well-formed input
	Unauthorized      // no credentials, or wrong ones
	Forbidden         // credentials that do not allow this
	NotFound          // not there, or not the caller's
	Conflict          // the state does not allow it
	TooLarge          // over a size bound
	Unsupported       // in a form that is not read
	TooMany           // over a rate bound
	Unavailable       // try again later
)

// A FieldError names a member of the input and the rule that it breaks.
type FieldError struct {
	Field   string `json:"field"` // dotted path, "guest_info.email"; empty for the whole body
	Rule    string `json:"rule"`  // one word of a closed set: required, type, range, …
	Message string `json:"message"`
}

// An Error is one that a caller may see. Detail is a sentence for people, Code a
// stable word for programs.
type Error struct {
	Kind   Kind
	Code   string
	Detail string
	Fields []FieldError
	// Extra members are laid beside the standard ones in the answer.
	Extra map[string]any
	// RetryAfter is when asking again makes sense; 0 says nothing. It leaves as the
	// header Retry-After, in whole seconds.
	RetryAfter time.Duration `json:"-"`
}

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

// Errorf makes an error for callers. The text must not hold secrets or SQL.
func Errorf(k Kind, code, format string, args ...any) *Error {
	return &Error{Kind: k, Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Refuse makes a rule error about one field.
func Refuse(k Kind, code, field, rule, format string, args ...any) *Error {
	e := Errorf(k, code, format, args...)
	e.Fields = []FieldError{{Field: field, Rule: rule, Message: e.Detail}}
	return e
}

// KindOf is the kind of the first Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}
