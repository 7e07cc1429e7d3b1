package filter

import (
	"maps"
	"slices"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
)

// A price is what one call costs in steps. A step is some 30 to 100 ns; BenchmarkFunctions
// measures each function beside its price.
type price struct {
	fixed uint64
	// reads says that the first operand is read to its end: four steps for each
	// ten characters more, since a character may have four bytes.
	reads bool
}

var (
	free    = price{}                       // counted as a node of the expression
	plain   = price{fixed: 1}               // numbers, conditions
	texts   = price{fixed: 4}               // comparing texts and times
	clock   = price{fixed: 8}               // a part of a time
	zoned   = price{fixed: 12}              // a part of a time in a zone
	fails   = price{fixed: 10}              // its error is made anew each time
	prints  = price{fixed: 20}              // makes a text
	parses  = price{fixed: 20, reads: true} // and its error quotes the text
	reads   = price{fixed: 2, reads: true}
	ordered = []string{"less_", "less_equals_", "greater_", "greater_equals_"}
)

// library is what a filter may call of CEL's own functions: overloads, by the
// function's name. One without a price is not in the language, so a later version
// of the library adds none by itself.
//
// Left out are dyn, which would hide a wrong name from the check, and type; unsigned
// numbers, bytes and maps, which no event has; and `+` of lists, whose result is
// slower to read with each list in it.
var library = newLibrary()

func newLibrary() map[string]map[string]price {
	l := map[string]map[string]price{
		operators.LogicalAnd:       {overloads.LogicalAnd: free},
		operators.LogicalOr:        {overloads.LogicalOr: free},
		operators.Conditional:      {overloads.Conditional: free},
		operators.LogicalNot:       {overloads.LogicalNot: plain},
		operators.NotStrictlyFalse: {overloads.NotStrictlyFalse: plain},
		operators.Index:            {overloads.IndexList: fails},
		operators.Negate:           {overloads.NegateInt64: fails, overloads.NegateDouble: plain},
		operators.Add: {
			overloads.AddInt64: fails, overloads.AddDouble: plain, overloads.AddString: free, // the library's: both texts
			overloads.AddDurationDuration: fails, overloads.AddDurationTimestamp: fails, overloads.AddTimestampDuration: fails,
		},
		operators.Subtract: {
			overloads.SubtractInt64: fails, overloads.SubtractDouble: plain, overloads.SubtractDurationDuration: fails,
			overloads.SubtractTimestampDuration: fails, overloads.SubtractTimestampTimestamp: fails,
		},
		operators.Multiply: {overloads.MultiplyInt64: fails, overloads.MultiplyDouble: plain},
		operators.Divide:   {overloads.DivideInt64: fails, overloads.DivideDouble: plain},
		operators.Modulo:   {overloads.ModuloInt64: fails},

		overloads.Size:       {overloads.SizeString: reads, overloads.SizeStringInst: reads, overloads.SizeList: plain, overloads.SizeListInst: plain},
		overloads.Contains:   {overloads.ContainsString: {fixed: 10, reads: true}},
		overloads.StartsWith: {overloads.StartsWithString: texts},
		overloads.EndsWith:   {overloads.EndsWithString: texts},
		overloads.Matches:    {overloads.Matches: free, overloads.MatchesString: free}, // see sizes.EstimateCallCost

		overloads.TypeConvertBool:      {overloads.BoolToBool: plain, overloads.StringToBool: parses},
		overloads.TypeConvertInt:       {overloads.IntToInt: plain, overloads.DoubleToInt: fails, overloads.StringToInt: parses, overloads.TimestampToInt: texts, overloads.DurationToInt: texts},
		overloads.TypeConvertDouble:    {overloads.DoubleToDouble: plain, overloads.IntToDouble: plain, overloads.StringToDouble: parses},
		overloads.TypeConvertString:    {overloads.StringToString: plain, overloads.BoolToString: prints, overloads.IntToString: prints, overloads.DoubleToString: prints, overloads.TimestampToString: prints, overloads.DurationToString: prints},
		overloads.TypeConvertTimestamp: {overloads.TimestampToTimestamp: plain, overloads.IntToTimestamp: fails, overloads.StringToTimestamp: parses},
		overloads.TypeConvertDuration:  {overloads.DurationToDuration: plain, overloads.StringToDuration: parses},

		overloads.TimeGetHours:        {overloads.DurationToHours: texts},
		overloads.TimeGetMinutes:      {overloads.DurationToMinutes: texts},
		overloads.TimeGetSeconds:      {overloads.DurationToSeconds: texts},
		overloads.TimeGetMilliseconds: {overloads.DurationToMilliseconds: texts},
	}
	for i, name := range []string{operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals} {
		l[name] = map[string]price{}
		for of, p := range map[string]price{
			"bool": plain, "int64": plain, "double": plain, "int64_double": plain, "double_int64": plain,
			"string": texts, "timestamp": texts, "duration": plain,
		} {
			l[name][ordered[i]+of] = p
		}
	}
	for name, f := range timeParts {
		if l[name] == nil {
			l[name] = map[string]price{}
		}
		l[name][f.plain] = clock
	}
	return l
}

// subset is the library without what has no price.
func subset() *env.LibrarySubset {
	s := &env.LibrarySubset{IncludeMacros: []string{operators.Has, operators.All, operators.Exists, operators.ExistsOne}}
	for _, name := range slices.Sorted(maps.Keys(library)) {
		f := &env.Function{Name: name}
		for _, id := range slices.Sorted(maps.Keys(library[name])) {
			f.Overloads = append(f.Overloads, &env.Overload{ID: id})
		}
		s.IncludeFunctions = append(s.IncludeFunctions, f)
	}
	return s
}

// models are the prices as the library's cost models. What it prices by more than
// one operand stays as it has it.
func models() (out []cost.OverloadModel) {
	for name, ids := range library {
		for id, p := range ids {
			if p != free {
				out = append(out, p.model(id, memberOnly[name] || id == overloads.SizeStringInst || id == overloads.SizeListInst))
			}
		}
	}
	return out
}

// memberOnly are the functions that are called on their first operand.
var memberOnly = map[string]bool{
	overloads.Contains: true, overloads.StartsWith: true, overloads.EndsWith: true, overloads.TimeGetFullYear: true, overloads.TimeGetMonth: true,
	overloads.TimeGetDayOfYear: true, overloads.TimeGetDayOfMonth: true, overloads.TimeGetDate: true, overloads.TimeGetDayOfWeek: true,
	overloads.TimeGetHours: true, overloads.TimeGetMinutes: true, overloads.TimeGetSeconds: true, overloads.TimeGetMilliseconds: true,
}

func (p price) model(id string, member bool) cost.OverloadModel {
	first, overload := cost.Arg(0), cost.Overload
	if member {
		first, overload = cost.Target(), cost.MemberOverload
	}
	steps := cost.Const(p.fixed)
	if p.reads {
		steps = cost.Sum(steps, cost.Scale(first, 4*cost.StringTraversalCostFactor))
	}
	options := []cost.OverloadModelOption{cost.EvalCost(steps)}
	if p == prints {
		options = append(options, cost.ResultSize(cost.Const(maxPrinted)))
	}
	return overload(id, options...)
}

// maxPrinted bounds a number or a time as text.
const maxPrinted = 40

// nodes counts what an evaluation passes through, whatever it costs by itself: a
// constant, an operand of `||`, an element of a list that is made anew. What stands in
// a loop is passed once for each element.
func nodes(e ast.Expr, times uint64) uint64 {
	n := times
	if e.Kind() == ast.ComprehensionKind {
		c := e.AsComprehension()
		each := cost.SafeMultiply(times, max(maxChanged, elements(c.IterRange())))
		for _, part := range []ast.Expr{c.LoopCondition(), c.LoopStep()} {
			n = cost.SafeAdd(n, nodes(part, each))
		}
		return cost.SafeAdd(n, nodes(c.IterRange(), times), nodes(c.AccuInit(), times), nodes(c.Result(), times))
	}
	for _, child := range children(e) {
		n = cost.SafeAdd(n, nodes(child, times))
	}
	return n
}

// elements bounds the length of a list by all that is written in its expression.
func elements(e ast.Expr) uint64 {
	n := uint64(0)
	if e.Kind() == ast.ListKind {
		n = uint64(e.AsList().Size())
	}
	for _, child := range children(e) {
		n += elements(child)
	}
	return n
}

func children(e ast.Expr) []ast.Expr {
	switch e.Kind() {
	case ast.CallKind:
		c := e.AsCall()
		if c.IsMemberFunction() {
			return append([]ast.Expr{c.Target()}, c.Args()...)
		}
		return c.Args()
	case ast.ListKind:
		return e.AsList().Elements()
	case ast.SelectKind:
		return []ast.Expr{e.AsSelect().Operand()}
	default:
		return nil
	}
}
