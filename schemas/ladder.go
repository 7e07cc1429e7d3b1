package schemas

import (
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
)

// A Ladder is the delays before the second, third, … attempt; the first is made
// at once. The same delay may stand twice: its topic is one.
type Ladder []time.Duration

// DefaultLadder tries for about 28 hours: Svix's schedule with a 30 s step, long
// enough for a night and a working day.
func DefaultLadder() Ladder {
	return Ladder{5 * time.Second, 30 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour}
}

// ParseLadder reads delays such as "5s,30s,5m". Each must be between 100 ms and
// 24 h, and none smaller than the one before: the tier that covers a wait is
// looked up upwards.
func ParseLadder(s string) (Ladder, error) {
	var l Ladder
	for f := range strings.SplitSeq(s, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(f))
		if err != nil {
			return nil, fmt.Errorf("reading the delay %q: it must be like 30s, 5m or 2h", f)
		}
		if d < 100*time.Millisecond || d > day || d%time.Millisecond != 0 {
			return nil, fmt.Errorf("the delay %s must be whole milliseconds between 100ms and 24h", d)
		}
		if len(l) > 0 && d < l[len(l)-1] {
			return nil, fmt.Errorf("the delay %s is shorter than the one before", d)
		}
		l = append(l, d)
	}
	if len(l) > 50 {
		return nil, errors.New("a ladder has at most 50 delays")
	}
	return l, nil
}

// Cut keeps the first n delays. It does not touch the tiers that other
// deliveries already wait on: the retry processor drains whatever tier exists.
func (l Ladder) Cut(n int) Ladder { return l[:min(max(n, 0), len(l))] }

// Next is the delay after the given number of attempts made; false when the
// ladder has run out.
func (l Ladder) Next(made int) (time.Duration, bool) {
	if made < 1 || made > len(l) {
		return 0, false
	}
	return l[made-1], true
}

// Tiers are the distinct delays, the shortest first.
func (l Ladder) Tiers() []time.Duration {
	t := slices.Clone(l)
	slices.Sort(t)
	return slices.Compact(t)
}

// HoldsFor is how long a tier keeps the records of a subscription. From a minute
// on it is up to a tenth less than its name says, by an amount that belongs to the
// subscription: endpoints that failed together are not called together again, and
// within one the order stays. On shorter tiers the spread would be less than the
// network's own.
func HoldsFor(tier time.Duration, s SubscriptionID) time.Duration {
	if tier < time.Minute {
		return tier
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return tier - tier/10*time.Duration(h.Sum32()%1000)/1000
}

// Covering is the shortest tier that is at least d, else the longest: whoever
// waits longer than that is put back on it. It is false on an empty ladder.
func (l Ladder) Covering(d time.Duration) (time.Duration, bool) {
	tiers := l.Tiers()
	if len(tiers) == 0 {
		return 0, false
	}
	for _, t := range tiers {
		if t >= d {
			return t, true
		}
	}
	return tiers[len(tiers)-1], true
}

// Total is the time from the first attempt to the last, when each fails at once.
func (l Ladder) Total() time.Duration {
	var sum time.Duration
	for _, d := range l {
		sum += d
	}
	return sum
}
