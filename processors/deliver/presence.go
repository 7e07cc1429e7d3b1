package deliver

import (
	"time"

	"github.com/krib-ai/krib/internal/kafka"
)

// enter and leave count the jobs of each lane in each partition, so that a flood
// is told from a crowd: where one healthy lane has all the work, or all are in
// the same flood, the partition is paused and the records stay where they are,
// in order; where others have little to do, the surplus is parked and theirs
// pass.
func (s *lanes) enter(j *job) {
	p := j.item.Partition()
	w := s.parts[p]
	if w == nil {
		w = &presence{jobs: map[*lane]int{}}
		s.parts[p] = w
	}
	w.jobs[j.lane]++
}

func (s *lanes) leave(j *job) {
	p := j.item.Partition()
	w := s.parts[p]
	if w == nil {
		return
	}
	if w.jobs[j.lane]--; w.jobs[j.lane] <= 0 {
		delete(w.jobs, j.lane)
		if w.paused == j.lane {
			w.paused = nil
			p.Resume(kafka.PauseLane)
		}
	}
	if len(w.jobs) == 0 {
		delete(s.parts, p)
	}
}

// mayPause says that nobody is starved by a pause of the partition for l: every
// other lane with work in it has enough to go on with for as long as it takes.
func (s *lanes) mayPause(l *lane, p *kafka.Partition) bool {
	w := s.parts[p]
	if w == nil || w.jobs[l] == 0 {
		return false
	}
	for other := range w.jobs {
		if other != l && other.limit.wait(other.queued) < parkAfter/4 && other.queued < maxQueue/4 {
			return false
		}
	}
	return true
}

// waitsPaused says that one more record may wait in a healthy lane beyond its
// bound because its partition is paused for it, or is from now on. What was
// fetched before still comes and joins, for as long as the pause stays a short
// one.
func (s *lanes) waitsPaused(l *lane, p *kafka.Partition) bool {
	if l.limit.wait(l.queued) > pausedWait {
		return false
	}
	if w := s.parts[p]; w != nil && w.paused == l {
		return true
	}
	if !s.mayPause(l, p) {
		return false
	}
	s.pause(l, p)
	return true
}

// pause stops the partition's fetching for l; joined says when it ends.
func (s *lanes) pause(l *lane, p *kafka.Partition) {
	w := s.parts[p]
	if w.paused != nil {
		return
	}
	w.paused = l
	p.Pause(kafka.PauseLane)
}

// joined notes that l's queue has grown. A pause for it lasts until half of what
// there is now is gone: half of what there was at the first record would be none
// of it, where a thousand more of the same fetch followed.
func (s *lanes) joined(l *lane, p *kafka.Partition) {
	if w := s.parts[p]; w.paused == l {
		w.resumeAt = l.queued / 2
	}
}

func (s *lanes) pausedFor(l *lane) bool {
	for _, w := range s.parts {
		if w.paused == l {
			return true
		}
	}
	return false
}

// unpause lets partitions go on whose lane's queue has halved, or whose lane is
// not healthy any more: its records are parked from now on.
func (s *lanes) unpause(l *lane, now time.Time) {
	for p, w := range s.parts {
		if w.paused == l && (l.queued <= w.resumeAt || !l.healthy(now)) {
			w.paused = nil
			p.Resume(kafka.PauseLane)
		}
	}
}
