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
	}
	if len(w.jobs) > 0 {
		return
	}
	if w.paused != nil {
		p.Resume(kafka.PauseLane)
	}
	delete(s.parts, p)
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

// pause stops the partition's fetching for l. What was fetched before still
// comes, and joins the queue.
func (s *lanes) pause(l *lane, p *kafka.Partition) {
	w := s.parts[p]
	if w.paused != nil {
		return
	}
	w.paused, w.resumeAt = l, l.queued/2
	p.Pause(kafka.PauseLane)
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
