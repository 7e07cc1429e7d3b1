package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A Table follows a compacted topic of one partition from its start and hands
// every committed record to Apply, in order, from one goroutine.
//
// Its position counts control records too. Without them the last record of the
// topic is nearly always a transaction's commit marker, which a reader never
// sees, and the table would wait for ever for an offset that does not come.
type Table struct {
	topic string
	apply func(*kgo.Record)
	cl    *kgo.Client

	mu    sync.Mutex
	pos   int64
	moved chan struct{} // closed and replaced whenever pos grows
}

// NewTable makes a table of the topic's partition 0. Run reads it; Apply must
// not block for long and must skip what it cannot decode.
func NewTable(c Config, name, topic string, apply func(*kgo.Record)) (*Table, error) {
	opts := append(c.Options(name),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
		kgo.KeepControlRecords(),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making the table of %s: %w", topic, err)
	}
	return &Table{topic: topic, apply: apply, cl: cl, moved: make(chan struct{})}, nil
}

// Run reads until ctx ends, then closes the client. Broker faults are retried
// inside the client; Run ends with an error only when the topic's data is gone.
func (t *Table) Run(ctx context.Context) error {
	defer t.cl.Close()
	for {
		fetches := t.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, fe := range fetches.Errors() {
			if _, ok := errors.AsType[*kgo.ErrDataLoss](fe.Err); ok {
				return fmt.Errorf("reading the table %s: %w", t.topic, fe.Err)
			}
		}
		var pos int64
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				t.apply(r)
			}
			pos = r.Offset + 1
		})
		t.advance(pos)
	}
}

func (t *Table) advance(pos int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pos > t.pos {
		t.pos = pos
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

// WaitUntilCurrent blocks until the table has applied everything that was
// committed to the topic when it was called: whoever wrote a record before that
// call finds it applied after. While a transaction is open on the topic it waits
// for its end, so give it longer than a transaction may take.
func (t *Table) WaitUntilCurrent(ctx context.Context) error {
	end, err := t.end(ctx)
	if err != nil {
		return err
	}
	for {
		t.mu.Lock()
		pos, moved := t.pos, t.moved
		t.mu.Unlock()
		if pos >= end {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the table %s at %d of %d: %w", t.topic, pos, end, ctx.Err())
		case <-moved:
		}
	}
}

// end is the high watermark, or 0 where nothing is left to read: a partition whose
// records were all deleted ends where it starts.
//
// The last stable offset would be too early. Suppose one transaction wrote a
// subscription and a booking. Its commit is decided, and the brokers write the
// markers, each partition's at its own time. The booking's comes first: it is
// read, and its reader asks how far the subscriptions go. The last stable offset
// is still before the subscription. The high watermark is behind it, since the
// record was acknowledged before the commit began.
func (t *Table) end(ctx context.Context) (int64, error) {
	adm := kadm.NewClient(t.cl)
	ends, err := adm.ListEndOffsets(ctx, t.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the end of %s: %w", t.topic, err)
	}
	end, _ := ends.Lookup(t.topic, 0)
	t.mu.Lock()
	known := t.pos >= end.Offset
	t.mu.Unlock()
	if known {
		return end.Offset, nil
	}
	starts, err := adm.ListStartOffsets(ctx, t.topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the start of %s: %w", t.topic, err)
	}
	if start, _ := starts.Lookup(t.topic, 0); start.Offset >= end.Offset {
		return 0, nil
	}
	return end.Offset, nil
}
