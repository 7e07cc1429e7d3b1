// Package notifications is the sink that writes hosts' inboxes: every
// notification of host.notifications becomes exactly one row.
//
// Exactly once comes from Postgres alone. A batch's rows and the offset after it
// are one transaction, and the sink starts from that offset, not from the
// group's commits. The group only says who owns which partition.
package notifications

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// Group is the consumer group.
const Group = "krib-notifications"

// maxPoll bounds a batch: its rows are one transaction.
const maxPoll = 1_000

// Options of a Sink. All but Committed and Registry are required.
type Options struct {
	Kafka kafka.Config
	DB    *store.DB // in RoleSink
	Feed  schemas.Feed
	// Committed is called after each commit, so that what waits for rows (the
	// stream) is told. It must not block.
	Committed func()
	Logger    *slog.Logger
	Registry  prometheus.Registerer
}

// A Sink is one member of the group.
type Sink struct {
	o    Options
	cl   *kgo.Client
	made chan struct{} // closed when cl is set
	m    metrics
	mu   sync.Mutex
	own  map[int32]position // of the partitions that are this member's
}

// A position is what this writer believes of a partition. The two differ only
// where the stored offset was out of the topic's range.
type position struct {
	stored int64 // what sink_offsets holds
	floor  int64 // below it everything is committed
}

type metrics struct {
	rows, poison, refused, reset prometheus.Counter
}

// New makes a Sink and its client; Run joins the group.
func New(o Options) (*Sink, error) {
	if o.Committed == nil {
		o.Committed = func() {}
	}
	s := &Sink{o: o, own: map[int32]position{}, made: make(chan struct{}), m: metrics{
		rows:    prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_notifications_written_total", Help: "Notification records committed to Postgres."}),
		poison:  prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_notifications_poison_total", Help: "Feed records that could not be decoded. Alert on any."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_notifications_refused_total", Help: "Batches refused because another writer had moved the offset."}),
		reset:   prometheus.NewCounter(prometheus.CounterOpts{Name: "krib_notifications_reset_total", Help: "Partitions begun anew because their offset was out of range. Alert on any."}),
	}}
	if o.Registry != nil {
		o.Registry.MustRegister(s.m.rows, s.m.poison, s.m.refused, s.m.reset)
	}
	opts := append(o.Kafka.Options(Group), o.Kafka.GroupOptions(Group)...)
	opts = append(opts,
		kgo.ConsumeTopics(string(schemas.HostNotifications)),
		kgo.AdjustFetchOffsetsFn(s.adjust),
		kgo.OnPartitionsRevoked(s.forget),
		kgo.OnPartitionsLost(s.forget),
		// The offset must move over commit markers too, or the position that a
		// stream waits for would never be reached.
		kgo.KeepControlRecords(),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("making the notification sink: %w", err)
	}
	s.cl = cl
	close(s.made)
	return s, nil
}

// adjust starts each partition from Postgres. Without an epoch: the offset's
// leader epoch is not kept, and a wrong one would be taken for truncation.
func (s *Sink) adjust(ctx context.Context, as map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	var have map[int32]int64
	err := s.o.DB.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		var err error
		have, err = tx.SinkOffsets(ctx, s.o.Feed.TopicID)
		return err
	})
	if err != nil {
		return nil, err
	}
	<-s.made // the client joins its group while it is still being made
	bounds, err := s.bounds(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, parts := range as {
		for p := range parts {
			at, known := have[p]
			pos, b := position{at, at}, bounds[p]
			if known && (at < b.start || at > b.end) {
				// What is missing was deleted before it was read, or the topic is not
				// what it was. Rows are unique by id, so beginning anew is harmless.
				s.m.reset.Inc()
				s.o.Logger.ErrorContext(ctx, "the sink's offset is out of range; the partition begins anew",
					slog.Int("partition", int(p)), slog.Int64("offset", at), slog.Int64("start", b.start), slog.Int64("end", b.end))
				known = false
			}
			if !known {
				pos.floor = b.start
			}
			s.own[p] = pos
			as[topic][p] = kgo.NewOffset().At(pos.floor).WithEpoch(-1)
		}
	}
	return as, nil
}

// Ready is nil once the sink has joined its group.
func (s *Sink) Ready(context.Context) error { return kafka.Joined(s.cl) }

type bound struct{ start, end int64 }

func (s *Sink) bounds(ctx context.Context) (map[int32]bound, error) {
	topic, adm := string(schemas.HostNotifications), kadm.NewClient(s.cl)
	starts, err1 := adm.ListStartOffsets(ctx, topic)
	ends, err2 := adm.ListEndOffsets(ctx, topic)
	if err := errors.Join(err1, err2, starts.Error(), ends.Error()); err != nil {
		return nil, fmt.Errorf("asking for the bounds of %s: %w", topic, err)
	}
	out := map[int32]bound{}
	starts.Each(func(o kadm.ListedOffset) { out[o.Partition] = bound{start: o.Offset} })
	ends.Each(func(o kadm.ListedOffset) { out[o.Partition] = bound{out[o.Partition].start, o.Offset} })
	return out, nil
}

func (s *Sink) forget(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ps := range gone {
		for _, p := range ps {
			delete(s.own, p)
		}
	}
}

// Run writes until ctx ends. While Postgres is away it waits and tries the same
// batch again; nothing is skipped.
func (s *Sink) Run(ctx context.Context) error {
	return kafka.Poll(ctx, s.cl, s.o.Logger, Group, maxPoll, func(fetches kgo.Fetches) {
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			if len(f.Records) > 0 {
				s.write(ctx, f.Partition, f.Records)
			}
		})
	})
}

// write commits a partition's records, for as long as it takes. The client holds
// the group's rebalance back meanwhile; its patience is the rebalance timeout, and
// a writer that lost its partition in that time is refused by the offset.
func (s *Sink) write(ctx context.Context, partition int32, rs []*kgo.Record) {
	reported := false // what is poison is told once, however often the batch is tried
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		err := s.commit(ctx, partition, rs, &reported)
		if err == nil {
			return
		}
		s.o.Logger.WarnContext(ctx, "writing notifications failed; it is tried again", slog.Int("partition", int(partition)), slog.Any("error", err))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// errRefused says that the offset was not where this writer believed it to be.
var errRefused = errors.New("another writer has moved the offset")

func (s *Sink) commit(ctx context.Context, partition int32, rs []*kgo.Record, reported *bool) error {
	s.mu.Lock()
	pos, mine := s.own[partition]
	s.mu.Unlock()
	if !mine {
		return nil // lost since the poll; the new owner has them
	}
	to := rs[len(rs)-1].Offset + 1
	rows, bad := s.decode(ctx, rs, pos.floor)
	if !*reported {
		if err := s.report(ctx, bad); err != nil {
			return err
		}
		*reported = true
	}
	if to <= pos.floor {
		s.mark(rs)
		return nil
	}
	err := s.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		ok, err := tx.AdvanceSink(ctx, s.o.Feed.TopicID, partition, pos.stored, to)
		if err != nil {
			return err
		}
		if !ok {
			return errRefused
		}
		if len(rows) == 0 {
			return nil
		}
		return tx.AddFromLog(ctx, rows)
	})
	if errors.Is(err, errRefused) {
		s.m.refused.Inc()
		return errors.Join(err, s.reload(ctx, partition))
	}
	if err != nil {
		return err
	}
	s.believe(partition, to)
	s.mark(rs)
	s.m.rows.Add(float64(len(rows)))
	s.o.Committed()
	return nil
}

// mark moves the group's own offset too. Nothing starts from it; it is what
// people and lag monitors look at.
func (s *Sink) mark(rs []*kgo.Record) { s.cl.MarkCommitRecords(rs[len(rs)-1]) }

// reload takes over what another writer has committed. If this one still owns the
// partition it goes on from there; if not, the rebalance that is under way will
// say so.
func (s *Sink) reload(ctx context.Context, partition int32) error {
	return s.o.DB.Read(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) error {
		at, err := tx.SinkOffset(ctx, s.o.Feed.TopicID, partition)
		if err != nil {
			return err
		}
		s.believe(partition, at)
		return nil
	})
}

func (s *Sink) believe(partition int32, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, mine := s.own[partition]; mine {
		s.own[partition] = position{at, at}
	}
}

// decode picks the notifications out of a batch; what is below from is committed
// already. Updates and bookings are for the stream: marks are written by their
// commands.
func (s *Sink) decode(ctx context.Context, rs []*kgo.Record, from int64) (rows []store.LoggedNotification, bad []*kgo.Record) {
	for _, r := range rs {
		if r.Offset < from || r.Attrs.IsControl() {
			continue
		}
		f, err := schemas.Decode[schemas.FeedRecord](r.Value)
		if err == nil && f.Kind == schemas.FeedNotification && (f.Notification == nil || f.Notification.ID == "" || !f.Notification.Type.Known()) {
			err = errors.New("a notification record without a valid notification")
		}
		if err != nil {
			s.o.Logger.ErrorContext(ctx, "a feed record could not be decoded; it is on krib.poison",
				slog.Int("partition", int(r.Partition)), slog.Int64("offset", r.Offset), slog.Any("error", err))
			if p, err := kafka.PoisonOf(Group, r, err); err == nil {
				bad = append(bad, p)
			}
			continue
		}
		if f.Kind == schemas.FeedNotification {
			rows = append(rows, store.LoggedNotification{Notification: *f.Notification, Offset: r.Offset})
		}
	}
	sortByID(rows)
	return rows, bad
}

func (s *Sink) report(ctx context.Context, bad []*kgo.Record) error {
	if len(bad) == 0 {
		return nil
	}
	if err := s.cl.ProduceSync(ctx, bad...).FirstErr(); err != nil {
		return fmt.Errorf("writing to krib.poison: %w", err)
	}
	s.m.poison.Add(float64(len(bad)))
	return nil
}
