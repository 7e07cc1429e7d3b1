package fanout

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// Fan-out asks filters one after the other, so the filters of one agent must not
// take the time of another's events. A filter is asked while its agent has time left;
// without, the event counts as wanted.
const (
	// perEvent is an agent's time for one event, whatever the number of its filters. A
	// usual filter takes some microseconds.
	perEvent = 2 * time.Millisecond
	// maxDebt is the time that the filters of all agents together may take at once, and
	// share what they may take in the long run, as a part of all time. Both are divided among
	// the agents whose filters have taken time lately. Half of a processor is a hundred
	// thousand usual filters a second, and leaves as much for the events themselves.
	maxDebt = 20 * time.Millisecond
	share   = 0.5
	// maxEvaluation ends a loop whose price is wrong. It is measured on the wall, where
	// a busy machine may take long for little.
	maxEvaluation = 250 * time.Millisecond
)

var errOutOfTime = errors.New("the filter took too long")

// started is where time is measured from.
var started = time.Now()

// asked is what came of asking the filters about events.
type asked struct{ evaluations, errors, filtered, notAsked int }

func (a *asked) add(b asked) {
	a.evaluations += b.evaluations
	a.errors += b.errors
	a.filtered += b.filtered
	a.notAsked += b.notAsked
}

// A budget is the time of filters. It belongs to the goroutine that renders.
type budget struct {
	now  func() time.Time
	took func() time.Duration // grows with the time that this thread has worked
	// debts are what the filters of each agent have taken, less what it was given since.
	debts map[schemas.AgentID]time.Duration
	paid  time.Time
}

func newBudget() *budget {
	return &budget{now: time.Now, took: threadTime, debts: map[schemas.AgentID]time.Duration{}}
}

// begin gives each agent its part of the time since the last batch. It keeps the
// goroutine on its thread, whose work is what an evaluation is charged for: on a busy
// machine an evaluation may wait for long, which is not the filter's fault.
func (b *budget) begin() {
	runtime.LockOSThread()
	now := b.now()
	if n := len(b.debts); n > 0 {
		part := time.Duration(float64(now.Sub(b.paid)) * share / float64(n))
		for agent, debt := range b.debts {
			if debt <= part {
				delete(b.debts, agent)
			} else {
				b.debts[agent] = debt - part
			}
		}
	}
	b.paid = now
}

func (*budget) end() { runtime.UnlockOSThread() }

// exhausted reports whether an agent's filters have used up their time.
func (b *budget) exhausted(agent schemas.AgentID, thisEvent time.Duration) bool {
	debt, known := b.debts[agent]
	n := len(b.debts)
	if !known {
		n++
	}
	return thisEvent >= perEvent || debt >= maxDebt/time.Duration(n)
}

// wanted are the subscribers whose filter takes the event. Each filter is asked
// once, whatever the number of its subscriptions; the first one's agent is charged. One without
// an answer counts as a match: an event too many is seen by the receiver, one too few
// by no one.
func (b *budget) wanted(subs []subscriber, e *schemas.Event) ([]subscriber, asked) {
	var (
		a       asked
		answers = map[*shared]bool{}
		spent   = map[schemas.AgentID]time.Duration{}
		out     = subs[:0]
	)
	ctx, cancel := context.WithTimeoutCause(context.Background(), maxEvaluation, errOutOfTime)
	defer cancel()
	for _, s := range subs {
		if s.filter == nil {
			out = append(out, s)
			continue
		}
		yes, known := answers[s.filter]
		switch {
		case known:
		case b.exhausted(s.AgentID, spent[s.AgentID]):
			a.notAsked++
			s.notAsked, yes = true, true
		default:
			began := b.took()
			var err error
			yes, err = s.filter.Matches(ctx, e)
			took := b.took() - began
			spent[s.AgentID] += took
			b.debts[s.AgentID] += took
			a.evaluations++
			if err != nil {
				a.errors++
				yes = true
			}
			answers[s.filter] = yes
		}
		if !yes {
			a.filtered++
			continue
		}
		out = append(out, s)
	}
	return out, a
}
