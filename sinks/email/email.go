// Package email is the sink that sends mail: to hosts what is in their inboxes, to
// guests what has become of their bookings.
//
// It has two halves with a table between them. One copies what has to be mailed
// from host.notifications and booking.events to Postgres, where an id is queued
// once, however often its record is read. The other sends what is due: replicas
// take turns to choose a mail and to lease it, and its end is written as soon as
// the server has answered. So a mail is sent once, except where nobody can know:
// when the answer was lost, or the process was killed between the answer and its
// commit. It is sent again then, with the same Message-ID.
package email

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// Group is the consumer group.
const Group = "krib-email"

const (
	// maxPoll bounds a batch: its rows are one transaction.
	maxPoll = 1_000
	// oldest is what is still mailed. It bounds what a group that begins anew, or is
	// set back, sends to people about last week.
	oldest = 48 * time.Hour
)

// Options of a Sink. All but Dashboard, Digest, Rate and Registry are required.
type Options struct {
	Kafka  kafka.Config
	DB     *store.DB // in RoleSink
	Server Server
	From   mail.Address
	// Dashboard is what a notification's link is relative to; without it such links
	// are left out.
	Dashboard string
	// Digest is how long a host's mail waits for more; 0 is not at all. What is urgent
	// or asks for an answer does not wait. What is due at the same time for one host
	// is one mail in any case.
	Digest time.Duration
	// Rate bounds the mails a minute of the whole cluster. Default 120.
	Rate     int
	Logger   *slog.Logger
	Registry prometheus.Registerer
}

// A Sink is one member of the group, and one of those who send.
type Sink struct {
	o    Options
	cl   *kgo.Client
	m    *metrics
	wake chan struct{} // something was queued
}

// New lets a group that is new begin at the topics' ends, then makes a Sink and
// its client; Run joins the group.
func New(ctx context.Context, o Options) (*Sink, error) {
	o.Rate = cmp.Or(o.Rate, 120)
	if err := begin(ctx, o.Kafka); err != nil {
		return nil, err
	}
	opts := append(o.Kafka.Options(Group), o.Kafka.GroupOptions(Group)...)
	cl, err := kgo.NewClient(append(opts, kgo.ConsumeTopics(topics...))...)
	if err != nil {
		return nil, fmt.Errorf("making the mail sink: %w", err)
	}
	return &Sink{o: o, cl: cl, m: newMetrics(o.Registry), wake: make(chan struct{}, 1)}, nil
}

var topics = []string{string(schemas.HostNotifications), string(schemas.BookingEvents)}

// begin commits the topics' ends for each partition of which the group has no
// offset. It is done before anybody joins: left to the client, a partition without
// records would have no offset until the first one, and a restart before that
// would skip what came in between.
func begin(ctx context.Context, c kafka.Config) error {
	c.Registry = nil // it has gone before it could be looked at
	cl, err := kafka.NewProducer(c, Group+"-begin")
	if err != nil {
		return err
	}
	defer cl.Close()
	return kafka.Patiently(ctx, func() error { return commitMissing(ctx, kadm.NewClient(cl)) })
}

func commitMissing(ctx context.Context, adm *kadm.Client) error {
	missing, err := uncommitted(ctx, adm)
	if err != nil || len(missing) == 0 {
		return err
	}
	// Refused when a replica that did the same has joined since; then all is there.
	done, refused := adm.CommitOffsets(ctx, Group, missing)
	if refused == nil {
		refused = done.Error()
	}
	if refused == nil {
		return nil
	}
	if missing, err = uncommitted(ctx, adm); err != nil || len(missing) == 0 {
		return err
	}
	return fmt.Errorf("beginning at the end as %s: %w", Group, refused)
}

func uncommitted(ctx context.Context, adm *kadm.Client) (kadm.Offsets, error) {
	have, err := adm.FetchOffsets(ctx, Group)
	if err == nil {
		err = have.Error()
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // which some brokers answer for a group that is new
		return nil, fmt.Errorf("asking for the offsets of %s: %w", Group, err)
	}
	// The last stable offset: what an open transaction has written is still to come.
	ends, err := adm.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("asking for the ends of %v: %w", topics, err)
	}
	missing := kadm.Offsets{}
	ends.Each(func(o kadm.ListedOffset) {
		if at, ok := have.Lookup(o.Topic, o.Partition); !ok || at.At < 0 {
			missing.AddOffset(o.Topic, o.Partition, o.Offset, -1)
		}
	})
	return missing, nil
}

// Ready is nil once the sink has joined its group. Whether the mail server can be
// reached is no part of it: mail waits, and nothing else does.
func (s *Sink) Ready(context.Context) error { return kafka.Joined(s.cl) }

// Run queues and sends until ctx ends. While Postgres is away it waits and tries
// the same batch again; nothing is skipped.
func (s *Sink) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.consume(ctx) })
	g.Go(func() error {
		(&sender{Sink: s}).run(ctx)
		return nil
	})
	return g.Wait()
}

func (s *Sink) consume(ctx context.Context) error {
	return kafka.Poll(ctx, s.cl, s.o.Logger, Group, maxPoll, func(fetches kgo.Fetches) {
		if rs := fetches.Records(); len(rs) > 0 {
			s.queue(ctx, rs)
		}
	})
}

// queue commits a batch for as long as it takes, then marks it.
func (s *Sink) queue(ctx context.Context, rs []*kgo.Record) {
	es, bad := s.decode(ctx, rs)
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 2*time.Second) {
		err := s.report(ctx, bad)
		if err == nil {
			bad = nil // told once, however often the batch is tried
			err = s.commit(ctx, es)
		}
		if err == nil {
			s.cl.MarkCommitRecords(rs...)
			return
		}
		s.o.Logger.WarnContext(ctx, "queueing mail failed; it is tried again", slog.Any("error", err))
		pause(ctx, wait)
	}
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

func (s *Sink) commit(ctx context.Context, es []store.Email) error {
	if len(es) == 0 {
		return nil
	}
	var queued int64
	err := s.o.DB.Update(ctx, store.Scope{}, func(ctx context.Context, tx *store.Tx) (err error) {
		queued, err = tx.QueueEmails(ctx, es, s.o.Digest)
		return err
	})
	if err != nil {
		return err
	}
	s.m.queued.Add(float64(queued))
	select {
	case s.wake <- struct{}{}:
	default: // the sender has not looked since the last one
	}
	return nil
}

// pause is a sleep that ends with ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
