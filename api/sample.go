package api

import (
	"sync"
	"time"
)

const (
	sampleEvery = 10 * time.Second
	maxSamples  = 1_000
)

// A sampler lets one line of each cause through every ten seconds and counts the
// others. Its zero value is ready, and it is safe for concurrent use.
type sampler struct {
	mu     sync.Mutex
	causes map[string]sample
}

type sample struct {
	until   time.Time
	leftOut int
}

// say reports whether a line may be written now, and how many of its cause were left
// out since the last. Beyond maxSamples causes at a time, the others share one.
func (s *sampler) say(cause string, now time.Time) (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.causes == nil {
		s.causes = map[string]sample{}
	}
	have, known := s.causes[cause]
	if !known && len(s.causes) >= maxSamples {
		for c, old := range s.causes {
			if now.Sub(old.until) > sampleEvery {
				delete(s.causes, c)
			}
		}
		if len(s.causes) >= maxSamples {
			cause = "others"
			have = s.causes[cause]
		}
	}
	if now.Before(have.until) {
		have.leftOut++
		s.causes[cause] = have
		return 0, false
	}
	s.causes[cause] = sample{until: now.Add(sampleEvery)}
	return have.leftOut, true
}
