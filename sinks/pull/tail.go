package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
)

const (
	askTimeout = 5 * time.Second // for positions
	askAgain   = 500 * time.Millisecond
	// warm is how many offsets of each partition are read at the start, so that those
	// whom the end of the process before has cut off find in memory what they missed.
	warm = 500
)

var errIncomplete = errors.New("an event without id, type, booking or dates")

// tail reads all partitions until ctx ends.
func (l *Log) tail(ctx context.Context) error {
	for {
		err := l.settle(ctx)
		if err == nil {
			err = l.follow(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to stop; what failed, failed for that
		case errors.Is(err, kafka.ErrRecreated):
			return err
		case err != nil:
			l.log.WarnContext(ctx, "the booking events cannot be read yet", slog.Any("error", err))
		}
		// A log that fails again and again must not be asked in a hot loop.
		if !sleep(ctx, askAgain) {
			return nil
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// client is one that lives for a few requests, or for one reading.
func (l *Log) client(name string, opts ...kgo.Opt) (*kgo.Client, error) {
	conf := l.opts.Kafka
	conf.Registry = nil // many of these live at a time, and none for long
	cl, err := kgo.NewClient(append(conf.Options(name), opts...)...)
	if err != nil {
		return nil, fmt.Errorf("making the client %s: %w", name, err)
	}
	return cl, nil
}

// settle gives the partitions a position inside what the log has, where they have
// none yet. One that is not in it any more was lost by the brokers: what follows
// is read, and whoever has a cursor beyond the end is told when it comes.
func (l *Log) settle(ctx context.Context) error {
	return l.bounds(ctx, func(ctx context.Context, _ *kgo.Client, starts, ends kadm.ListedOffsets) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for i := range l.parts {
			start, _ := starts.Lookup(topic, int32(i))
			end, _ := ends.Lookup(topic, int32(i))
			l.settleOne(ctx, i, start.Offset, end.Offset)
		}
		return nil
	})
}

func (l *Log) settleOne(ctx context.Context, i int, start, end int64) {
	p := &l.parts[i]
	if p.live && p.next >= start && p.next <= end {
		return
	}
	if p.live {
		l.metrics.losses.Inc()
		l.log.ErrorContext(ctx, "the log has lost a position of booking.events",
			slog.Int("partition", i), slog.Int64("position", p.next), slog.Int64("start", start), slog.Int64("end", end))
	}
	p.begin(max(start, end-warm), end)
}

// bounds asks for both ends of every partition, with a client of its own: one that
// lives longer remembers the ids of topics.
func (l *Log) bounds(ctx context.Context, use func(ctx context.Context, cl *kgo.Client, starts, ends kadm.ListedOffsets) error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	cl, err := l.client("pull-positions")
	if err != nil {
		return err
	}
	defer cl.Close()
	starts, ends, err := kafka.Bounds(ctx, cl, topic, l.opts.Life)
	if err != nil {
		return err
	}
	return use(ctx, cl, starts, ends)
}

// follow reads from the partitions' positions until ctx ends or the client has
// given one of them up. Brokers that are away are waited for inside the client.
func (l *Log) follow(ctx context.Context) error {
	positions := map[int32]int64{}
	for i, next := range l.heads() {
		positions[int32(i)] = next
	}
	cl, err := kgo.NewClient(append(l.opts.Kafka.Options("pull"), kafka.FromPositions(topic, positions)...)...)
	if err != nil {
		return fmt.Errorf("making the tail of %s: %w", topic, err)
	}
	defer cl.Close()
	for {
		l.sayStarted()
		fs := cl.PollRecords(ctx, 2000)
		if ctx.Err() != nil {
			return nil
		}
		fs.EachPartition(l.append)
		if err := fault(fs); err != nil {
			return err
		}
	}
}

// fault is the error of a fetch after which the client goes no further by itself.
func fault(fs kgo.Fetches) error {
	for _, f := range fs.Errors() {
		_, lost := errors.AsType[*kgo.ErrDataLoss](f.Err)
		switch {
		case errors.Is(f.Err, kerr.UnknownTopicID), errors.Is(f.Err, kerr.InconsistentTopicID):
			return fmt.Errorf("%s: %w", topic, kafka.ErrRecreated)
		case lost, f.Topic == topic && !kerr.IsRetriable(f.Err):
			return fmt.Errorf("reading partition %d of %s: %w", f.Partition, topic, f.Err)
		}
	}
	return nil
}

func (l *Log) append(f kgo.FetchTopicPartition) {
	if f.Err != nil || len(f.Records) == 0 {
		return
	}
	es := make([]*entry, 0, len(f.Records))
	for _, r := range f.Records {
		if e := l.decode(r); e != nil {
			es = append(es, e)
		}
	}
	l.add(f.Partition, es, f.Records[len(f.Records)-1].Offset+1)
}

// decode is nil for what is no event that an agent may have. One that cannot be
// decoded is counted and left out; its offset passes. Fan-out, which reads each
// record once, puts it on krib.poison.
func (l *Log) decode(r *kgo.Record) *entry {
	if r.Attrs.IsControl() {
		return nil
	}
	e, err := entryOf(r)
	if err != nil {
		l.metrics.undecodable.Inc()
		l.log.Error("a booking event cannot be decoded",
			slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset), slog.Any("error", err))
		return nil
	}
	return e
}

// sayStarted lets the early callers in once the end that was seen is reached.
func (l *Log) sayStarted() {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range l.parts {
		if p := &l.parts[i]; !p.live || p.next < p.head {
			return
		}
	}
	l.startOnce.Do(func() { close(l.started) })
}
