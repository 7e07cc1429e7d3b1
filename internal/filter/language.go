package filter

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	// A loop inside a loop is the only way to a cost that a short text does not show.
	maxLoopDepth = 1
	maxDepth     = 50
	// A pattern of a few characters can be a program of megabytes: x{1000}. It is
	// counted in instructions.
	maxPattern = 500
)

// language is what a filter may be written in. It is immutable, and made when it
// is first needed.
var language = sync.OnceValue(newLanguage)

func newLanguage() *cel.Env {
	e, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(subset())), cel.CostModel(models()...),
		cel.CustomTypeProvider(members), cel.CustomTypeAdapter(members),
		cel.Variable("event", eventType), cel.Variable("booking", bookingType),
		cel.CrossTypeNumericComparisons(true), comparisons(), inZones(),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(MaxLength), cel.ParserRecursionLimit(maxDepth),
		cel.ExtendedValidations(), cel.RegexProgramSizeLimit(maxPattern),
		cel.ASTValidators(cel.ValidateComprehensionNestingLimit(maxLoopDepth), constantPatterns{}, literalZones{}, noMaps{}),
	)
	if err != nil {
		panic(err) // of constants; every test of this package would see it
	}
	return e
}

// comparisons are `==`, `!=` and `in`. The library's take two values of any one
// type, and so refuse an amount, which has two decimal places, beside 950: these
// take two numbers of either kind. Objects and times may be null.
func comparisons() cel.EnvOption {
	scalars := []*cel.Type{cel.BoolType, cel.IntType, cel.DoubleType, cel.StringType, cel.TimestampType, cel.DurationType}
	pairs := [][2]*cel.Type{{cel.DoubleType, cel.IntType}, {cel.IntType, cel.DoubleType}}
	for _, t := range scalars {
		pairs = append(pairs, [2]*cel.Type{t, t})
	}
	var options functions
	in := []cel.FunctionOpt{cel.SingletonBinaryBinding(contains)}
	for _, p := range pairs {
		id := fmt.Sprintf("%s_in_%s", p[0], p[1])
		in = append(in, cel.Overload(id, []*cel.Type{p[0], cel.ListType(p[1])}, cel.BoolType))
		options = append(options, cel.CostModel(cost.Overload(id, cost.EvalCost(cost.Arg(1)))))
	}
	for _, t := range []*cel.Type{eventType, actorType, paymentType, bookingType, propertyType, guestType, cel.ListType(cel.StringType)} {
		pairs = append(pairs, [2]*cel.Type{t, t})
	}
	var equals, differs []cel.FunctionOpt
	for _, p := range pairs {
		same, other := fmt.Sprintf("%s_equals_%s", p[0], p[1]), fmt.Sprintf("%s_differs_from_%s", p[0], p[1])
		equals = append(equals, cel.Overload(same, p[:], cel.BoolType))
		differs = append(differs, cel.Overload(other, p[:], cel.BoolType))
		steps := cost.EvalCost(cost.Const(equality(p[0])))
		options = append(options, cel.CostModel(cost.Overload(same, steps), cost.Overload(other, steps)))
	}
	return cel.Lib(append(options,
		cel.Function(operators.Equals, equals...), cel.Function(operators.NotEquals, differs...), cel.Function(operators.In, in...),
	))
}

// equality is the price of comparing two values of a type: a list's is that of the
// longest, and an object is compared with itself, of which there is one.
func equality(t *cel.Type) uint64 {
	if t.Kind() == types.ListKind {
		return 2 * maxChanged
	}
	return texts.fixed
}

func contains(element, list ref.Val) ref.Val {
	if l, ok := list.(traits.Container); ok {
		return l.Contains(element)
	}
	return types.MaybeNoSuchOverloadErr(list)
}

// functions are options that are one option.
type functions []cel.EnvOption

func (f functions) CompileOptions() []cel.EnvOption   { return f }
func (functions) ProgramOptions() []cel.ProgramOption { return nil }

// check parses, checks types and bounds the cost.
func check(text string) (*cel.Ast, *Error) {
	if n := utf8.RuneCountInString(text); n > MaxLength {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("has %d characters, and may have %d", n, MaxLength)}
	}
	if !utf8.ValidString(text) {
		return nil, &Error{Line: 1, Column: 1, Message: "is not UTF-8"}
	}
	checked, issues := language().Compile(text)
	if es := issues.Errors(); len(es) > 0 {
		at := es[0].Location
		// What the parser would have taken instead is its whole vocabulary.
		message, _, _ := strings.Cut(es[0].Message, " expecting ")
		return nil, &Error{Line: max(at.Line(), 1), Column: max(at.Column(), 0) + 1, Message: message}
	}
	if t := checked.OutputType(); !t.IsExactType(types.BoolType) {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("is %s, and must be a condition: true or false", t)}
	}
	tree := checked.NativeRep()
	estimate, err := language().EstimateCost(checked, sizes{})
	if err != nil {
		return nil, &Error{Line: 1, Column: 1, Message: err.Error()}
	}
	if most := cost.SafeAdd(estimate.Max, nodes(tree.Expr(), 1)); most > maxCost {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("may cost %d steps, and is allowed %d: make it simpler", most, maxCost)}
	}
	return checked, nil
}

// sizes bounds the values of events for the estimate. An event that has longer
// ones runs into the limit of its evaluation instead.
type sizes struct{}

const (
	// The longest text that the API takes into a booking has 500 characters.
	maxText = 500
	// An address has at most 254 (RFC 5321).
	maxEmail = 254
	// Names of a booking's members.
	maxChanged = 32
)

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if len(n.Path()) == 0 {
		return nil
	}
	switch n.Type().Kind() {
	case types.StringKind:
		if path := n.Path(); path[len(path)-1] == "email" {
			return &cost.SizeEstimate{Max: maxEmail}
		}
		return &cost.SizeEstimate{Max: maxText}
	case types.ListKind:
		return &cost.SizeEstimate{Max: maxChanged}
	default:
		return nil
	}
}

// EstimateCallCost prices a pattern by its program. The library does by its
// length, and (x?){200} is short.
func (sizes) EstimateCallCost(_, overload string, target *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	if overload != overloads.Matches && overload != overloads.MatchesString {
		return nil
	}
	if target == nil {
		target = &args[0]
	}
	length := uint64(maxText)
	if size := (*target).ComputedSize(); size != nil {
		length = size.Max
	}
	program := maxPattern
	if pattern := args[len(args)-1].Expr(); pattern.Kind() == ast.LiteralKind {
		if n, err := types.RegexProgramSize(fmt.Sprint(pattern.AsLiteral().Value())); err == nil {
			program = n
		}
	}
	steps := cost.Estimate{Max: length * uint64(program)}
	return &cost.CallEstimate{CostEstimate: steps.MultiplyByCostFactor(0.1)}
}

// constantPatterns refuses a pattern that is not in the filter's text: whoever
// books could write one that is slow, and it would be compiled for each event.
type constantPatterns struct{}

func (constantPatterns) Name() string { return "krib.patterns" }

func (constantPatterns) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for _, call := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher(overloads.Matches)) {
		args := call.AsCall().Args()
		if pattern := args[len(args)-1]; pattern.Kind() != ast.LiteralKind {
			issues.ReportErrorAtID(pattern.ID(), "the pattern of matches must be a literal")
		}
	}
}

// noMaps refuses maps: no event has one, and one that is made in a loop is slow.
type noMaps struct{}

func (noMaps) Name() string { return "krib.maps" }

func (noMaps) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for _, m := range ast.MatchDescendants(ast.NavigateAST(a), ast.KindMatcher(ast.MapKind)) {
		issues.ReportErrorAtID(m.ID(), "a filter may have no maps")
	}
}
