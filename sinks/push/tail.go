package push

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
	"github.com/krib-ai/krib/schemas"
)

const topic = string(schemas.HostNotifications)

const (
	askTimeout = 5 * time.Second // for positions, of brokers and of the sink
	askAgain   = 500 * time.Millisecond
)

// tail reads all partitions until ctx ends. Where the log has lost a partition's
// position, it takes a new one, tells the listeners, and goes on.
func (h *Hub) tail(ctx context.Context) error {
	for lost := h.parts; ; {
		err := h.settle(ctx, lost)
		if err == nil {
			h.startOnce.Do(func() { close(h.started) })
			lost, err = h.follow(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // asked to stop; what failed, failed for that
		case errors.Is(err, kafka.ErrRecreated):
			return err
		case err != nil:
			h.log.WarnContext(ctx, "the feed cannot be read yet", slog.Any("error", err))
		}
		// A log that is lost again and again must not be asked in a hot loop.
		if !sleep(ctx, askAgain) {
			return nil
		}
	}
}

// settle gives the partitions their position: the one that the sink has
// committed, inside what the log has. What is older is read on demand. After a
// loss it is the same and not the head: a client that reads its state anew gets
// it as of the sink's position, and what the sink writes after comes as frames.
func (h *Hub) settle(ctx context.Context, ps []*partition) error {
	if len(ps) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	starts, ends, err := h.bounds(ctx)
	if err != nil {
		return err
	}
	sink, err := h.opts.Released(ctx)
	if err != nil {
		return fmt.Errorf("asking for the sink's positions: %w", err)
	}
	for _, p := range ps {
		start, _ := starts.Lookup(topic, p.partition)
		end, _ := ends.Lookup(topic, p.partition)
		pos := min(max(sink[p.partition], start.Offset), end.Offset)
		p.begin(pos, end.Offset, sink[p.partition], time.Now())
	}
	return nil
}

// bounds are where the log of each partition starts and where it is committed to.
func (h *Hub) bounds(ctx context.Context) (starts, ends kadm.ListedOffsets, err error) {
	conf := h.opts.Kafka
	conf.Registry = nil // it lives for three requests
	cl, err := kgo.NewClient(conf.Options("push-positions")...)
	if err != nil {
		return nil, nil, fmt.Errorf("making a client: %w", err)
	}
	defer cl.Close()
	return kafka.Bounds(ctx, cl, topic, h.opts.Feed)
}

// follow reads from the partitions' positions until ctx ends or some are lost.
// Brokers that are away are waited for inside the client.
func (h *Hub) follow(ctx context.Context) ([]*partition, error) {
	positions := map[int32]int64{}
	for _, p := range h.parts {
		positions[p.partition] = p.position()
	}
	cl, err := kgo.NewClient(append(h.opts.Kafka.Options("push"), kafka.FromPositions(topic, positions)...)...)
	if err != nil {
		return nil, fmt.Errorf("making the tail of %s: %w", topic, err)
	}
	defer cl.Close()
	for _, p := range h.parts {
		p.attach(pauser(cl, p.partition))
		defer p.detach()
	}
	for {
		fs := cl.PollRecords(ctx, 2000)
		if ctx.Err() != nil {
			return nil, nil
		}
		fault := h.inspect(ctx, fs)
		if fault.recreated {
			return nil, fmt.Errorf("following %s: %w", topic, kafka.ErrRecreated)
		}
		fs.EachPartition(h.append)
		if fault.stuck || len(fault.lost) > 0 {
			return fault.lost, nil
		}
	}
}

func pauser(cl *kgo.Client, partition int32) func(bool) {
	this := map[string][]int32{topic: {partition}}
	return func(pause bool) {
		if pause {
			cl.PauseFetchPartitions(this)
		} else {
			cl.ResumeFetchPartitions(this)
		}
	}
}

// A fault is what a poll's errors come to.
type fault struct {
	recreated bool         // the topic is another one
	stuck     bool         // the client gave a partition up; a new one goes on from the same position
	lost      []*partition // the log does not have their position any more
}

func (h *Hub) inspect(ctx context.Context, fs kgo.Fetches) fault {
	var out fault
	for _, f := range fs.Errors() {
		if errors.Is(f.Err, kerr.UnknownTopicID) || errors.Is(f.Err, kerr.InconsistentTopicID) {
			return fault{recreated: true}
		}
		h.log.WarnContext(ctx, "reading the feed", slog.Int("partition", int(f.Partition)), slog.Any("error", f.Err))
		if f.Topic != topic || f.Partition < 0 || int(f.Partition) >= len(h.parts) {
			continue // the client tells of the whole cluster, and tries again by itself
		}
		if loses(f.Err) {
			h.metrics.losses.Inc()
			out.lost = append(out.lost, h.parts[f.Partition])
		}
		out.stuck = out.stuck || !kerr.IsRetriable(f.Err)
	}
	return out
}

func loses(err error) bool {
	var gone *kgo.ErrDataLoss
	return errors.As(err, &gone) || errors.Is(err, kerr.OffsetOutOfRange)
}

// append decodes outside the partition's lock and adds inside.
func (h *Hub) append(f kgo.FetchTopicPartition) {
	if f.Err != nil || len(f.Records) == 0 {
		return
	}
	p := h.parts[f.Partition]
	es := make([]*entry, 0, len(f.Records))
	for _, r := range f.Records {
		if r.Attrs.IsControl() {
			continue
		}
		if e := h.decode(p.place, r); e != nil {
			es = append(es, e)
		}
	}
	p.add(es, f.Records[len(f.Records)-1].Offset+1, f.LastStableOffset)
}

// decode makes the record's entry. One that cannot be decoded is counted and left
// out; its offset passes. The sink, which reads each record once and not once for
// each replica, puts it on krib.poison.
func (h *Hub) decode(p place, r *kgo.Record) *entry {
	e, err := encode(p, r.Offset, r.Value)
	if err != nil {
		h.metrics.undecodable.Inc()
		h.log.Error("a record of the feed cannot be decoded",
			slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset), slog.Any("error", err))
		return nil
	}
	return e
}

// watchSink follows what the sink has committed: at each Wake, and once a second
// because a notification may be lost.
func (h *Hub) watchSink(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failing := false
	for {
		err := h.readSink(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing { // once, not each second
			h.log.WarnContext(ctx, "the stream stands still until the sink's positions can be read", slog.Any("error", err))
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-h.woken:
		case <-tick.C:
		}
	}
}

func (h *Hub) readSink(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	sink, err := h.opts.Released(ctx)
	if err != nil {
		return fmt.Errorf("asking for the sink's positions: %w", err)
	}
	for _, p := range h.parts {
		if next, ok := sink[p.partition]; ok {
			p.advance(next)
		}
	}
	return nil
}
