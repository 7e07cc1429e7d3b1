package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

const (
	// pollWait bounds a read, and so how long a cancelled job goes on.
	pollWait = 250 * time.Millisecond
	// pollRecords bounds what one step reads.
	pollRecords = 500
	// clockSkew is how far the clock that stamps records may be behind the one that
	// says when events occurred.
	clockSkew = time.Minute
	// scanFor is how long a job reads on that finds nothing, before it saves.
	scanFor = 300 * time.Millisecond
	// countRoom is the room of a dry run, which sends nothing.
	countRoom = 1_000
	// boundsTimeout bounds the questions at the beginning of a job.
	boundsTimeout = 10 * time.Second
	// oldStamp is how old a save may be whose time deliveries still take: the ladder is
	// a clock, too, and begins with it.
	oldStamp = time.Hour
)

// work is one turn of a job. Its client reads and writes, and ends with it: closing
// it is what gives up records that no broker has answered for.
type work struct {
	r   *Runner
	job *schemas.Replay
	cl  *kgo.Client
	// pending was read and is still to be looked at: there was no room for it.
	pending []*kgo.Record
	wish    wish
	// stamp is the time of the deliveries. The first of a turn may be a repetition of
	// what a runner has produced that died before it saved that, and so have the time
	// that it knew: attempts of a repeated delivery are then the same rows.
	stamp    time.Time
	repeated int
}

func (r *Runner) open(ctx context.Context, job *schemas.Replay) (*work, error) {
	if len(job.Progress.Spans) == 0 {
		spans, err := r.bounds(ctx, job)
		if err != nil {
			return nil, err
		}
		job.Progress.Spans = spans
	}
	from := map[int32]int64{}
	for _, s := range job.Progress.Spans {
		if s.Next < s.End {
			from[s.Partition] = s.Next
		}
	}
	opts := r.o.Kafka.Options("replay")
	if len(from) > 0 {
		opts = append(opts, kafka.FromPositions(string(schemas.BookingEvents), from)...)
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making the client of a replay: %w", err)
	}
	w := &work{r: r, job: job, cl: cl, repeated: r.o.Window}
	if time.Since(job.SavedAt) < oldStamp {
		w.stamp = job.SavedAt
	}
	return w, nil
}

func (w *work) close() { w.cl.Close() }

// bounds fixes what a job reads: up to what is on the topic now, from the beginning
// or from the first record that may hold an event of its range, and one partition
// only where one booking is meant.
//
// The end is the high watermark. Right after a commit the last stable offset may
// still be before what it made visible, and that is just what somebody may want who
// asks for the events of a moment ago.
func (r *Runner) bounds(ctx context.Context, job *schemas.Replay) ([]schemas.ReplaySpan, error) {
	ctx, cancel := context.WithTimeout(ctx, boundsTimeout)
	defer cancel()
	cl, err := kafka.NewProducer(r.o.Kafka, "replay-bounds")
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	const topic = string(schemas.BookingEvents)
	adm := kadm.NewClient(cl)
	first := time.UnixMilli(0)
	if job.Range.Since != nil {
		first = job.Range.Since.Add(-clockSkew)
	}
	starts, err1 := adm.ListOffsetsAfterMilli(ctx, first.UnixMilli(), topic)
	ends, err2 := adm.ListEndOffsets(ctx, topic)
	if err := errors.Join(err1, err2, ends.Error(), starts.Error()); err != nil {
		return nil, r.errorf(job, "asking for the bounds of the log: %w", err)
	}
	partitions := int32(len(ends[topic]))
	var spans []schemas.ReplaySpan
	ends.Each(func(e kadm.ListedOffset) {
		if b := job.Range.BookingID; b != "" && schemas.PartitionOf(string(b), partitions) != e.Partition {
			return
		}
		s, ok := starts.Lookup(topic, e.Partition)
		if !ok || s.Offset < 0 || s.Offset > e.Offset {
			s.Offset = e.Offset // nothing is that young
		}
		spans = append(spans, schemas.ReplaySpan{Partition: e.Partition, Start: s.Offset, Next: s.Offset, End: e.Offset})
	})
	slices.SortFunc(spans, func(a, b schemas.ReplaySpan) int { return int(a.Partition - b.Partition) })
	return spans, nil
}

// verdict says whether the job ends here, with what is saved.
func (w *work) verdict(sub *schemas.Subscription) (ending, bool) {
	if !sub.Active && !w.job.DryRun {
		return ending{state: schemas.ReplayFailed, reason: schemas.ReplayDisabled}, true
	}
	if !w.finished() {
		return ending{}, false
	}
	if w.job.Range.Single() && w.job.Progress.Matched == 0 {
		return ending{state: schemas.ReplayFailed, reason: schemas.ReplayEventGone}, true
	}
	return ending{state: schemas.ReplayDone}, true
}

// fault is the end of a turn by an error.
func (w *work) fault(err error) (ending, error) {
	if errors.Is(err, kerr.OffsetOutOfRange) {
		return ending{state: schemas.ReplayFailed, reason: schemas.ReplayLogGone}, err
	}
	return ending{pause: faultPause}, err
}

// finished says whether the whole range was read.
func (w *work) finished() bool {
	return !slices.ContainsFunc(w.job.Progress.Spans, func(s schemas.ReplaySpan) bool { return s.Next < s.End })
}

// advance takes steps until one has sent something, or there is something to save.
func (w *work) advance(ctx context.Context, sub *schemas.Subscription, room int) error {
	if w.job.DryRun {
		room = countRoom
	}
	began, produced := time.Now(), w.job.Progress.Produced
	for ctx.Err() == nil {
		if err := w.step(ctx, sub, room); err != nil {
			return err
		}
		if w.finished() || w.job.Progress.Produced > produced || time.Since(began) > scanFor {
			break
		}
	}
	return nil // asked to stop, it saves what it has
}

// step takes the job one batch further: at most room deliveries. The progress is
// written into the job; it is the caller's to save.
func (w *work) step(ctx context.Context, sub *schemas.Subscription, room int) error {
	if err := w.read(ctx); err != nil {
		return err
	}
	w.wish.of(sub)
	p := w.job.Progress
	p.Spans = slices.Clone(p.Spans)
	found := w.match(&p, sub, room)
	if w.job.Range.OnlyFailed {
		var err error
		if found, err = w.failed(ctx, found); err != nil {
			return err
		}
	}
	p.Matched += int64(len(found))
	if !w.job.DryRun {
		sent, err := w.produce(ctx, sub, found)
		if err != nil {
			return err
		}
		p.Produced += int64(len(sent))
		p.Waiting = append(slices.Clone(p.Waiting), sent...)
	}
	w.job.Progress = p
	return nil
}

// read fills pending when it is empty. Nothing may come for a while: a broker that
// is away is waited for.
func (w *work) read(ctx context.Context) error {
	if len(w.pending) > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pollWait)
	defer cancel()
	fetches := w.cl.PollRecords(ctx, pollRecords)
	for _, fe := range fetches.Errors() {
		if !errors.Is(fe.Err, context.DeadlineExceeded) && !errors.Is(fe.Err, context.Canceled) {
			return w.r.errorf(w.job, "reading partition %d of the log: %w", fe.Partition, fe.Err)
		}
	}
	w.pending = fetches.Records()
	return nil
}
