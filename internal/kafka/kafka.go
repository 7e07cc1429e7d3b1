// Package kafka is the only place that knows kgo's options, each with its
// reason, and the few shapes in which Krib reads and writes: a plain producer, a
// transactional one, a partition-parallel consumer that commits a contiguous
// watermark, and a table that follows a compacted topic.
//
// It hides neither records nor the client: there is no interface over
// *kgo.Client. What it guarantees is said on each type.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
	"github.com/twmb/franz-go/plugin/kslog"

	"github.com/krib-ai/krib/schemas"
)

// A Config says how to reach the cluster. Brokers and Logger are required.
type Config struct {
	Brokers  []string
	Security Security
	// Compression of what is written; empty is DefaultCompression.
	Compression Compression
	Logger      *slog.Logger
	// Instance is a stable ordinal of this process (a StatefulSet's, "dev"), unique
	// among the running ones. With it, group members are static and a restart after
	// a kill takes its partitions back at once; empty means dynamic membership.
	Instance string
	// Registry gets the clients' metrics; nil for none.
	Registry prometheus.Registerer
}

const (
	// SessionTimeout bounds how long a dead member keeps its partitions. It must be
	// above TransactionTimeout, or a fenced member's open transaction would block
	// the readers of the member that took over.
	SessionTimeout = 20 * time.Second
	// TransactionTimeout bounds how long an abandoned transaction blocks
	// read_committed readers.
	TransactionTimeout = 10 * time.Second
)

// Options are the ones that every client has. The name appears in the broker's
// logs and labels the client's metrics.
func (c Config) Options(name string) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("krib-" + name),
		// A moved leader is looked up again after this long; the default of 5 s
		// would be the length of every fail-over.
		kgo.MetadataMinAge(250 * time.Millisecond),
		// Records wait for nobody: batches form while a request is in flight.
		kgo.ProducerLinger(0),
		// Acknowledged by all in-sync replicas, or not acknowledged. It is the
		// default, and said because nothing here is right without it.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// kgo's default partitioner is Kafka's own murmur2 of the key, which
		// schemas.PartitionOf repeats. Records with an explicit partition keep it.
		kgo.RecordPartitioner(partitioner{kgo.StickyKeyPartitioner(nil)}),
		kgo.ProducerBatchCompression(c.Compression.codecs()...),
		// Only committed records: fan-out and relay write in transactions.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The default rewinds by a minute when there is no commit, and so would skip
		// what was written before a group first ran.
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.WithLogger(quiet{kslog.New(c.Logger.With(slog.String("client", name)))}),
	}
	opts = append(opts, c.Security.options()...)
	if c.Registry != nil {
		reg := prometheus.WrapRegistererWith(prometheus.Labels{"client": name}, c.Registry)
		opts = append(opts, kgo.WithHooks(kprom.NewMetrics("krib_kafka", kprom.Registerer(reg))))
	}
	return opts
}

// quiet passes warnings and errors on; kgo's info lines are its own diary.
type quiet struct{ kgo.Logger }

func (quiet) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// GroupOptions join a consumer group whose records are marked by hand.
func (c Config) GroupOptions(group string) []kgo.Opt {
	return append(c.MemberOptions(group),
		// A record is marked after its effect, so a crash repeats work and never
		// loses it.
		kgo.AutoCommitMarks(),
		// What is done and not committed is repeated after a kill.
		kgo.AutoCommitInterval(200*time.Millisecond),
	)
}

// MemberOptions join a consumer group and leave to the caller how it commits.
func (c Config) MemberOptions(group string) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.ConsumerGroup(group),
		// No partition leaves between poll and dispatch, so dispatch need not check
		// who owns it.
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(SessionTimeout),
		kgo.HeartbeatInterval(time.Second),
		kgo.RebalanceTimeout(30 * time.Second),
	}
	if c.Instance != "" {
		opts = append(opts, kgo.InstanceID(group+"-"+c.Instance))
	}
	return opts
}

// TransactionalOptions make the producer transactional. Whoever initialises the
// same id later fences this one.
func TransactionalOptions(id string) []kgo.Opt {
	return []kgo.Opt{
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(TransactionTimeout),
	}
}

// Joined is nil while the client is a member of its group, as far as it knows.
func Joined(cl *kgo.Client) error {
	if _, generation := cl.GroupMetadata(); generation < 0 {
		return errors.New("it has not joined its consumer group")
	}
	return nil
}

// NewProducer makes a client that only writes, idempotently. Close it to flush.
func NewProducer(c Config, name string) (*kgo.Client, error) {
	cl, err := kgo.NewClient(c.Options(name)...)
	if err != nil {
		return nil, fmt.Errorf("making the producer %s: %w", name, err)
	}
	return cl, nil
}

// explicit marks a record whose Partition field is meant. kgo's own manual
// partitioner would take every record's field, and most are keyed.
type explicit struct{}

// ToPartition makes the client write r to partition p, whatever its key.
func ToPartition(r *kgo.Record, p int32) *kgo.Record {
	r.Partition = p
	r.Context = context.WithValue(context.Background(), explicit{}, true)
	return r
}

// partitioner honours ToPartition and leaves the rest to Kafka's own.
type partitioner struct{ keyed kgo.Partitioner }

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	return topicPartitioner{p.keyed.ForTopic(topic)}
}

type topicPartitioner struct{ keyed kgo.TopicPartitioner }

func (p topicPartitioner) RequiresConsistency(r *kgo.Record) bool {
	return isExplicit(r) || p.keyed.RequiresConsistency(r)
}

func (p topicPartitioner) Partition(r *kgo.Record, n int) int {
	if isExplicit(r) {
		return int(r.Partition)
	}
	return p.keyed.Partition(r, n)
}

func isExplicit(r *kgo.Record) bool {
	return r.Context != nil && r.Context.Value(explicit{}) != nil
}

// Record makes a record of an encoded value with its CloudEvents headers.
func Record(topic, key string, meta schemas.Meta, value []byte) *kgo.Record {
	h := meta.Headers()
	r := &kgo.Record{Topic: topic, Key: []byte(key), Value: value, Headers: make([]kgo.RecordHeader, len(h))}
	for i := range h {
		r.Headers[i] = kgo.RecordHeader{Key: h[i].Key, Value: []byte(h[i].Value)}
	}
	return r
}

// Encode makes a record of a value of package schemas.
func Encode(topic, key string, meta schemas.Meta, v any) (*kgo.Record, error) {
	b, err := schemas.Encode(v)
	if err != nil {
		return nil, err
	}
	return Record(topic, key, meta, b), nil
}

// HeaderOf is the value of a record's header, or the empty string.
func HeaderOf(r *kgo.Record, key string) string {
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// maxPoisonBytes bounds the value inside a poison record. Base64 makes it a third
// longer, and brokers refuse records over 1 MiB: the poison of a big record
// would then be refused for ever and hold up its partition.
const maxPoisonBytes = 600 << 10

// maxPoisonText bounds a key, a header and the error; with maxPoisonHeaders of
// them, each byte perhaps six in JSON, the whole stays under what brokers take.
const (
	maxPoisonText    = 512
	maxPoisonHeaders = 20
)

func cut(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxPoisonText)], "\uFFFD") }

// PoisonOf wraps a record that reader could not decode, for krib.poison. The
// original is in it, whole up to maxPoisonBytes, so a person can mend and
// requeue it.
func PoisonOf(reader string, r *kgo.Record, cause error) (*kgo.Record, error) {
	p := schemas.Poison{
		Reader: reader, Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Error: cut(cause.Error()),
		Key: r.Key[:min(len(r.Key), maxPoisonText)], Value: r.Value[:min(len(r.Value), maxPoisonBytes)], At: schemas.Stamp(time.Now()), Headers: map[string]string{},
	}
	for i, h := range r.Headers {
		if i == maxPoisonHeaders {
			break
		}
		p.Headers[cut(h.Key)] = cut(string(h.Value))
	}
	id := fmt.Sprintf("%s-%s-%d-%d", reader, r.Topic, r.Partition, r.Offset)
	meta := schemas.Meta{ID: id, Type: "krib.poison", Subject: r.Topic, Time: p.At, Schema: schemas.SchemaPoison}
	return Encode(string(schemas.PoisonRecords), r.Topic, meta, p)
}
