// Package filter is the content filter of a webhook subscription: a CEL
// expression over `event` and `booking` that says whether an event is wanted.
//
// A filter is checked when it is written and never trusted when it runs. Its
// members have types, so a wrong name is an error with a place and not a filter
// that never matches; what it may cost is estimated from the sizes that events
// have, and counted when it is evaluated. It sees the event as it stands on its
// topic, and can change, keep and reach nothing.
package filter

import (
	"context"
	"errors"
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/krib-ai/krib/schemas"
)

// MaxLength bounds a filter's text, in characters.
const MaxLength = 2_000

// maxCost bounds what a filter may cost by its estimate, and what one evaluation
// may cost by count, in CEL's units: about one for each step and each ten
// characters that are looked at. The dearest filters that it lets pass take a
// millisecond or a few; see BenchmarkFunctions. Fan-out bounds the time of all filters of
// an agent beside it.
const maxCost = 10_000

// A Filter is a checked expression. It is immutable and safe for concurrent use.
type Filter struct {
	program cel.Program
}

// An Error says what is wrong with a filter, and where. It is written for whoever
// wrote the filter.
type Error struct {
	// Line and Column count from 1; a column is a character.
	Line, Column int
	Message      string
}

func (e *Error) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Compile checks a filter that is written now. Its error is always an [*Error]. The
// empty text is one too: no filter is not an expression that matches everything. One
// that no event can matter for is refused; [Load] takes it.
func Compile(text string) (*Filter, error) {
	checked, err := check(text)
	if err != nil {
		return nil, err
	}
	if err := useless(checked.NativeRep()); err != nil {
		return nil, err
	}
	return plan(checked)
}

// Load compiles a filter that was accepted once, perhaps by a release that asked
// less of it.
func Load(text string) (*Filter, error) {
	checked, err := check(text)
	if err != nil {
		return nil, err
	}
	return plan(checked)
}

func plan(checked *cel.Ast) (*Filter, error) {
	program, err := language().Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost), cel.InterruptCheckFrequency(16))
	if err != nil {
		// What cannot be planned was found while constants were evaluated.
		return nil, &Error{Line: 1, Column: 1, Message: err.Error()}
	}
	return &Filter{program: program}, nil
}

// Matches evaluates the filter. An error means that it has no answer for this
// event: it asks for an element that is not there, compares a time that is
// absent, divides by zero, or costs too much. A loop ends with ctx, and the error is
// its cause.
func (f *Filter) Matches(ctx context.Context, e *schemas.Event) (bool, error) {
	out, _, err := f.program.ContextEval(ctx, (*variables)(e))
	if err != nil {
		return false, fmt.Errorf("evaluating a filter: %w", err)
	}
	answer, ok := out.(types.Bool)
	if !ok {
		return false, errors.New("evaluating a filter: the answer is not a bool")
	}
	return bool(answer), nil
}

// variables is an event as an expression's variables. Nothing is converted before
// it is asked for.
type variables schemas.Event

func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "event":
		return (*schemas.Event)(v), true
	case "booking":
		return &v.Booking, true
	}
	return nil, false
}

func (*variables) Parent() cel.Activation { return nil }
