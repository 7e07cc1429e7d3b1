package filter

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/krib-ai/krib/schemas"
)

// timeParts are the functions that return a part of a time: the library's overload,
// in UTC, and the one with a zone, which is this package's: the library loads the
// zone from the machine's files at each call.
var timeParts = map[string]struct {
	plain, zoned string
	of           func(time.Time) int
}{
	overloads.TimeGetFullYear:     {overloads.TimestampToYear, overloads.TimestampToYearWithTz, time.Time.Year},
	overloads.TimeGetMonth:        {overloads.TimestampToMonth, overloads.TimestampToMonthWithTz, func(t time.Time) int { return int(t.Month()) - 1 }},
	overloads.TimeGetDayOfYear:    {overloads.TimestampToDayOfYear, overloads.TimestampToDayOfYearWithTz, func(t time.Time) int { return t.YearDay() - 1 }},
	overloads.TimeGetDayOfMonth:   {overloads.TimestampToDayOfMonthZeroBased, overloads.TimestampToDayOfMonthZeroBasedWithTz, func(t time.Time) int { return t.Day() - 1 }},
	overloads.TimeGetDate:         {overloads.TimestampToDayOfMonthOneBased, overloads.TimestampToDayOfMonthOneBasedWithTz, time.Time.Day},
	overloads.TimeGetDayOfWeek:    {overloads.TimestampToDayOfWeek, overloads.TimestampToDayOfWeekWithTz, func(t time.Time) int { return int(t.Weekday()) }},
	overloads.TimeGetHours:        {overloads.TimestampToHours, overloads.TimestampToHoursWithTz, time.Time.Hour},
	overloads.TimeGetMinutes:      {overloads.TimestampToMinutes, overloads.TimestampToMinutesWithTz, time.Time.Minute},
	overloads.TimeGetSeconds:      {overloads.TimestampToSeconds, overloads.TimestampToSecondsWithTz, time.Time.Second},
	overloads.TimeGetMilliseconds: {overloads.TimestampToMilliseconds, overloads.TimestampToMillisecondsWithTz, func(t time.Time) int { return t.Nanosecond() / 1e6 }},
}

// inZones are the time functions with a zone.
func inZones() cel.EnvOption {
	var options functions
	for name, f := range timeParts {
		options = append(options,
			cel.Function(name, cel.MemberOverload(f.zoned, []*cel.Type{cel.TimestampType, cel.StringType}, cel.IntType,
				cel.BinaryBinding(func(at, name ref.Val) ref.Val { return partIn(at, name, f.of) }))),
			cel.CostModel(cost.MemberOverload(f.zoned, cost.EvalCost(cost.Const(zoned.fixed)))))
	}
	return cel.Lib(options)
}

func partIn(at, name ref.Val, of func(time.Time) int) ref.Val {
	t, isTime := at.(types.Timestamp)
	text, isText := name.(types.String)
	if !isTime || !isText {
		return types.MaybeNoSuchOverloadErr(at)
	}
	zone, err := zoneOf(string(text))
	if err != nil {
		return types.WrapErr(err)
	}
	return types.Int(of(t.In(zone)))
}

// offsets are the zones of distances from UTC. The grammar has 2,880 of them.
var offsets sync.Map // of text to *time.Location

// zoneOf is the zone of a name, or of a distance from UTC as +05:30.
func zoneOf(name string) (*time.Location, error) {
	if !strings.HasPrefix(name, "+") && !strings.HasPrefix(name, "-") {
		zone, err := schemas.LoadZone(name)
		if err != nil {
			return nil, fmt.Errorf("the zone of a time: %w", err)
		}
		return zone, nil
	}
	if zone, ok := offsets.Load(name); ok {
		return zone.(*time.Location), nil //nolint:forcetypeassert // nothing else is stored
	}
	at, err := time.Parse("15:04", name[1:])
	if err != nil || len(name) != len("+05:30") {
		return nil, fmt.Errorf("%q is not a distance from UTC, as +05:30", name)
	}
	seconds := at.Hour()*3600 + at.Minute()*60
	if name[0] == '-' {
		seconds = -seconds
	}
	zone, _ := offsets.LoadOrStore(name, time.FixedZone(name, seconds))
	return zone.(*time.Location), nil //nolint:forcetypeassert // nothing else is stored
}

// literalZones refuses a zone that is not written in the filter, or does not exist.
type literalZones struct{}

func (literalZones) Name() string { return "krib.zones" }

func (literalZones) Validate(_ *cel.Env, _ cel.ValidatorConfig, a *ast.AST, issues *cel.Issues) {
	for name := range timeParts {
		for _, call := range ast.MatchDescendants(ast.NavigateAST(a), ast.FunctionMatcher(name)) {
			args := call.AsCall().Args()
			if len(args) == 0 {
				continue
			}
			if args[0].Kind() != ast.LiteralKind {
				issues.ReportErrorAtID(args[0].ID(), "the time zone of %s must be a literal, as 'Asia/Dubai' or '+04:00'", name)
				continue
			}
			text, ok := args[0].AsLiteral().(types.String)
			if !ok {
				continue // of another type, which the check has found
			}
			if _, err := zoneOf(string(text)); err != nil {
				issues.ReportErrorAtID(args[0].ID(), "%v", err)
			}
		}
	}
}
