package filter

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// useless returns why no event can matter for the filter, or why a part of it fails
// for each, where that can be decided: constants are evaluated, and the whole is
// evaluated with both variables unknown.
func useless(a *ast.AST) *Error {
	if at, why := failing(a, a.Expr()); at != nil {
		return place(a, at, why)
	}
	if !variable(a.Expr(), nil) {
		return place(a, a.Expr(), "does not ask about `event` or `booking`: it is the same for every event")
	}
	unknown, err := cel.PartialVars(cel.NoVars(), cel.AttributePattern("event"), cel.AttributePattern("booking"))
	if err != nil {
		return place(a, a.Expr(), err.Error())
	}
	program, err := language().PlanProgram(a, cel.EvalOptions(cel.OptPartialEval), cel.CostLimit(maxCost))
	if err != nil {
		return place(a, a.Expr(), err.Error())
	}
	out, _, err := program.Eval(unknown)
	switch {
	case err != nil:
		return place(a, a.Expr(), fmt.Sprintf("fails for every event: %v", err))
	case out.Type() == types.BoolType:
		return place(a, a.Expr(), fmt.Sprintf("is %v for every event", out.Value()))
	}
	return nil
}

func place(a *ast.AST, e ast.Expr, message string) *Error {
	at := a.SourceInfo().GetStartLocation(e.ID())
	return &Error{Line: max(at.Line(), 1), Column: max(at.Column(), 0) + 1, Message: message}
}

// failing returns the smallest part that fails whatever the event is, and why.
func failing(a *ast.AST, e ast.Expr) (ast.Expr, string) {
	constant := !variable(e, nil)
	if constant {
		err := evaluate(a, e)
		if err == nil {
			return nil, ""
		}
		for _, child := range parts(e) {
			// A part of a loop has the loop's variable, and is no expression by itself.
			if at, why := failing(a, child); at != nil {
				return at, why
			}
		}
		return e, fmt.Sprintf("fails for every event: %v", err)
	}
	if e.Kind() == ast.CallKind {
		if at, why := misused(e.AsCall()); at != nil {
			return at, why
		}
	}
	for _, child := range parts(e) {
		if at, why := failing(a, child); at != nil {
			return at, why
		}
	}
	return nil, ""
}

// misused finds a constant operand with which a function has no result.
func misused(c ast.CallExpr) (ast.Expr, string) {
	if len(c.Args()) != 2 || c.Args()[1].Kind() != ast.LiteralKind {
		return nil, ""
	}
	n, isInt := c.Args()[1].AsLiteral().(types.Int)
	switch {
	case isInt && n == 0 && (c.FunctionName() == operators.Divide || c.FunctionName() == operators.Modulo):
		return c.Args()[1], "fails for every event: division by zero"
	case isInt && n < 0 && c.FunctionName() == operators.Index:
		return c.Args()[1], "fails for every event: a list has no element before its first, 0"
	}
	return nil, ""
}

// evaluate returns the error of a constant.
func evaluate(a *ast.AST, e ast.Expr) error {
	if e.Kind() == ast.LiteralKind {
		return nil
	}
	alone := ast.NewCheckedAST(ast.NewAST(e, a.SourceInfo()), a.TypeMap(), a.ReferenceMap())
	program, err := language().PlanProgram(alone, cel.CostLimit(maxCost))
	if err != nil {
		return err //nolint:wrapcheck // it becomes a message
	}
	_, _, err = program.Eval(cel.NoVars())
	return err //nolint:wrapcheck // it becomes a message
}

// variable reports whether an expression has a variable that is not among those of
// the loops in it.
func variable(e ast.Expr, bound []string) bool {
	switch e.Kind() {
	case ast.IdentKind:
		return !slices.Contains(bound, e.AsIdent())
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		inside := append(append([]string{}, bound...), c.IterVar(), c.AccuVar())
		return variable(c.IterRange(), bound) || variable(c.AccuInit(), bound) || variable(c.LoopCondition(), inside) || variable(c.LoopStep(), inside) || variable(c.Result(), inside)
	default: // its children may have one
	}
	for _, child := range children(e) {
		if variable(child, bound) {
			return true
		}
	}
	return false
}

// parts are the children of an expression, those of a loop among them.
func parts(e ast.Expr) []ast.Expr {
	if e.Kind() != ast.ComprehensionKind {
		return children(e)
	}
	c := e.AsComprehension()
	return []ast.Expr{c.IterRange(), c.LoopStep()}
}
