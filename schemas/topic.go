package schemas

import (
	"strconv"
	"strings"
	"time"
)

// Two types of topic, so that nobody rebuilds state from a Stream that has
// forgotten it.
type (
	// A Table keeps the last record of every key for ever.
	Table string
	// A Stream keeps every record for a while.
	Stream string
)

// The topics. BookingEvents is both: inside its replay window every event is
// there, and after it the latest of each booking stays.
const (
	BookingEvents     Table  = "booking.events"
	Subscriptions     Table  = "webhook.subscriptions"
	OutboxProgress    Table  = "outbox.progress"
	Holds             Table  = "webhook.holds"
	Deliveries        Stream = "webhook.deliveries"
	DeadLetters       Stream = "webhook.dead"
	Attempts          Stream = "webhook.attempts"
	HostNotifications Stream = "host.notifications"
	PoisonRecords     Stream = "krib.poison"
)

// RetryPrefix begins the name of every tier topic; the delay follows.
const RetryPrefix = "webhook.retry."

// MaxEventBytes bounds the value of one outbox row. Brokers take 1 MiB by
// default; a delivery holds the event once more as text, escaped.
const MaxEventBytes = 256 << 10

// A Topic says how a topic is created. Values are those of Kafka's own
// configuration names.
type Topic struct {
	Name       string
	Partitions int32
	Config     map[string]string
}

// Keyed says whether a record's partition means something to its readers: order, or
// where to look for a key. Only topics that are read as a whole are not.
func (t Topic) Keyed() bool {
	return t.Name != string(PoisonRecords) && t.Name != string(DeadLetters)
}

// TopicOptions are what an operator may choose about the topics.
type TopicOptions struct {
	// Partitions of every topic that is not a one-partition topic. Never raised in
	// place: keys would move.
	Partitions int32
	// ReplayWindow is how long every single event of booking.events is kept.
	ReplayWindow time.Duration
	Ladder       Ladder
}

const day = 24 * time.Hour

// Topics lists every topic of this ladder.
func Topics(o TopicOptions) []Topic {
	ts := []Topic{
		{string(BookingEvents), o.Partitions, map[string]string{
			"cleanup.policy":        "compact",
			"retention.ms":          "-1",
			"min.compaction.lag.ms": millis(o.ReplayWindow),
			"max.compaction.lag.ms": millis(o.ReplayWindow + 5*day),
		}},
		{string(Subscriptions), 1, compacted()},
		{string(OutboxProgress), 1, compacted()},
		{string(Deliveries), o.Partitions, kept(7 * day)},
		{string(Holds), o.Partitions, compacted()},
		{string(DeadLetters), o.Partitions, kept(30 * day)},
		{string(Attempts), o.Partitions, kept(30 * day)},
		{string(HostNotifications), o.Partitions, kept(7 * day)},
		{string(PoisonRecords), o.Partitions, kept(30 * day)},
	}
	for _, d := range o.Ladder.Tiers() {
		c := kept(7*day + d)
		// The broker's own clock makes due times grow along a partition, so the
		// head is the soonest.
		c["message.timestamp.type"] = "LogAppendTime"
		ts = append(ts, Topic{TierTopic(d), o.Partitions, c})
	}
	return ts
}

func compacted() map[string]string {
	// retention.ms is said although a compacted topic ignores it on Apache Kafka:
	// kfake, the broker of `krib dev`, applies the default of seven days.
	return map[string]string{"cleanup.policy": "compact", "retention.ms": "-1"}
}

func kept(d time.Duration) map[string]string {
	return map[string]string{"cleanup.policy": "delete", "retention.ms": millis(d)}
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// TierTopic names the topic of a delay: webhook.retry.30s, webhook.retry.5m.
func TierTopic(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if s == "" || !strings.HasSuffix(d.String(), "m0s") {
		s = d.String()
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return RetryPrefix + s
}

// TierOf reads the delay back from a tier topic's name.
func TierOf(topic string) (time.Duration, bool) {
	s, ok := strings.CutPrefix(topic, RetryPrefix)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d > 0
}
