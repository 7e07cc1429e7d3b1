package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/krib-ai/krib/schemas"
)

// Counts are what happened in a span of time, by when the attempts began.
// Delivered, Dead, Withheld and Superseded count deliveries that ended; Attempts
// the requests that were made, Failed those of them that were not taken. Failing
// counts deliveries that have not ended: their last attempt failed, began in the span,
// and will be followed by another.
type Counts struct {
	Delivered, Dead, Withheld, Superseded int64
	Attempts, Failed                      int64
	Failing                               int64
	Latencies                             Latencies // of the requests
}

// Merge adds other counts up.
func (c *Counts) Merge(o *Counts) {
	c.Delivered += o.Delivered
	c.Dead += o.Dead
	c.Withheld += o.Withheld
	c.Superseded += o.Superseded
	c.Attempts += o.Attempts
	c.Failed += o.Failed
	c.Latencies.Merge(o.Latencies)
}

// count counts an attempt n times; -1 takes it back.
func (c *Counts) count(a *schemas.Attempt, n int64) {
	switch a.Outcome {
	case schemas.Delivered:
		c.Delivered += n
	case schemas.Dead, schemas.Gone:
		c.Dead += n
	case schemas.Withheld:
		c.Withheld += n
	case schemas.Superseded:
		c.Superseded += n
	case schemas.Retry:
	}
	if a.Status == 0 && a.DurationMS == 0 {
		return // no request was made
	}
	c.Attempts += n
	if a.Outcome != schemas.Delivered {
		c.Failed += n
	}
	c.Latencies.put(latencyBucket(a.DurationMS), n)
}

// slotWidth is how exact the beginning of a span is in the last day; before that
// it is an hour.
const slotWidth = 5 * time.Minute

// CountAttempts adds what [Tx.InsertAttempts] returned to the statistics of its
// subscriptions, in the same transaction: so they count the rows of the log, each
// once. Tests and operational deliveries do not count.
func (t *Tx) CountAttempts(as []Written) {
	slots := slotsOf(as)
	if len(slots) == 0 {
		return
	}
	var (
		subscription, agent, latencies                          []string
		at                                                      []time.Time
		delivered, dead, withheld, superseded, attempts, failed []int64
	)
	for _, s := range slots {
		subscription, agent, at = append(subscription, string(s.id)), append(agent, string(s.agent)), append(at, s.at)
		delivered, dead, withheld, superseded = append(delivered, s.Delivered), append(dead, s.Dead), append(withheld, s.Withheld), append(superseded, s.Superseded)
		attempts, failed, latencies = append(attempts, s.Attempts), append(failed, s.Failed), append(latencies, s.Latencies.literal())
	}
	t.tx.queue("counting attempts", countAttempts, subscription, agent, at, delivered, dead, withheld, superseded, attempts, failed, latencies)
}

// mergeCounts is what becomes of a slot's row that is there already.
const mergeCounts = `
on conflict (subscription_id, minutes, slot_at) do update set
  delivered = s.delivered + excluded.delivered, dead = s.dead + excluded.dead, withheld = s.withheld + excluded.withheld,
  superseded = s.superseded + excluded.superseded, attempts = s.attempts + excluded.attempts, failed = s.failed + excluded.failed,
  latencies = (select coalesce(array_agg(coalesce(a, 0) + coalesce(b, 0) order by i), '{}')
    from unnest(s.latencies, excluded.latencies) with ordinality as l (a, b, i))`

const countColumns = `delivered, dead, withheld, superseded, attempts, failed`

const countAttempts = `
insert into webhook_statistics as s (subscription_id, agent_id, minutes, slot_at, ` + countColumns + `, latencies)
select id, agent, 5, at, d, x, w, p, n, f, l::bigint[]
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[])
  as v (id, agent, at, d, x, w, p, n, f, l)` + mergeCounts

type slot struct {
	id    schemas.SubscriptionID
	agent schemas.AgentID
	at    time.Time
	Counts
}

// slotsOf sorts attempts into slots, in the one order in which all sinks write
// them, so that two cannot deadlock. What an attempt replaces is taken back from the
// slot that it was counted in.
func slotsOf(as []Written) []*slot {
	type key struct {
		id schemas.SubscriptionID
		at time.Time
	}
	by := map[key]*slot{}
	var slots []*slot
	count := func(a *schemas.Attempt, n int64) {
		if a.Trigger == schemas.TriggerTest || a.Trigger == schemas.TriggerOperational {
			return
		}
		k := key{a.SubscriptionID, a.StartedAt.UTC().Truncate(slotWidth)}
		if by[k] == nil {
			by[k] = &slot{id: k.id, agent: a.AgentID, at: k.at}
			slots = append(slots, by[k])
		}
		by[k].count(a, n)
	}
	for i := range as {
		if old := as[i].Instead; old != nil {
			count(old, -1)
		}
		count(&as[i].Attempt, 1)
	}
	slices.SortFunc(slots, func(a, b *slot) int { return cmp.Or(cmp.Compare(a.id, b.id), a.at.Compare(b.at)) })
	return slots
}

// literal writes the histogram as Postgres reads an array.
func (l Latencies) literal() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, n := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	b.WriteByte('}')
	return b.String()
}

// WindowedCounts are the counts of the last hour, day and week, each with what
// has begun of the current slot: the hour and the day are up to five minutes
// longer than they say, the week up to an hour.
type WindowedCounts struct {
	Hour, Day, Week Counts
}

// Statistics are the counts of a subscription, or of all that the scope may see
// where id is empty.
func (t *Tx) Statistics(ctx context.Context, id schemas.SubscriptionID, now time.Time) (WindowedCounts, error) {
	var (
		w     WindowedCounts
		parts [3]Counts // each row belongs to the shortest span that it is in
		part  int
		c     Counts
	)
	sql, args := statisticsQuery(t.scope, id, now)
	rows, err := t.tx.Query(ctx, sql, args...)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&part, &c.Delivered, &c.Dead, &c.Withheld, &c.Superseded, &c.Attempts, &c.Failed, (*[]int64)(&c.Latencies)}, func() error {
			parts[part] = Counts{}
			parts[part].Merge(&c)
			return nil
		})
	}
	if err != nil {
		return w, fmt.Errorf("reading statistics: %w", err)
	}
	w.Hour.Merge(&parts[0])
	w.Day.Merge(&w.Hour)
	w.Day.Merge(&parts[1])
	w.Week.Merge(&w.Day)
	w.Week.Merge(&parts[2])
	sql, spans := countFailing, args[:3:3]
	if id != "" {
		sql, spans = sql+` and subscription_id = $4`, append(spans, string(id))
	} else {
		sql += ` and subscription_id in (select id from webhook_subscriptions)`
	}
	if err := t.tx.QueryRow(ctx, sql, spans...).Scan(&w.Hour.Failing, &w.Day.Failing, &w.Week.Failing); err != nil {
		return w, fmt.Errorf("counting what fails: %w", err)
	}
	return w, nil
}

// countFailing looks at what waits, by its index. An attempt that failed so long ago
// that it is in no span belongs to a delivery that was lost with its topic.
const countFailing = `select count(*) filter (where last_attempt_at >= $1), count(*) filter (where last_attempt_at >= $2), count(*)
	from webhook_deliveries where state = 'waiting' and last_attempt_at >= $3 and trigger not in ('test', 'operational')`

// sumLatencies adds histograms up, one sum for each bucket. Taken apart with unnest
// and grouped by bucket, a thousand busy subscriptions cost three times as much.
var sumLatencies = func() string {
	sums := make([]string, latencyBuckets)
	for i := range sums {
		sums[i] = fmt.Sprintf("coalesce(sum(latencies[%d]), 0)::bigint", i+1)
	}
	return "array[" + strings.Join(sums, ", ") + "]"
}()

// statisticsQuery names the owner beside the policy that does: the policy's
// condition is one that no index serves.
func statisticsQuery(s Scope, id schemas.SubscriptionID, now time.Time) (sql string, args []any) {
	args = []any{now.Truncate(slotWidth).Add(-time.Hour), now.Truncate(slotWidth).Add(-24 * time.Hour), now.Truncate(time.Hour).Add(-7 * 24 * time.Hour)}
	where := ` where slot_at >= $3 and minutes in (5, 60)`
	switch {
	case id != "":
		where, args = where+` and subscription_id = $4`, append(args, string(id))
	case !s.Platform:
		where, args = where+` and agent_id = $4`, append(args, string(s.Agent))
	}
	return `select case when slot_at >= $1 then 0 when slot_at >= $2 then 1 else 2 end, sum(delivered)::bigint, sum(dead)::bigint,
		sum(withheld)::bigint, sum(superseded)::bigint, sum(attempts)::bigint, sum(failed)::bigint, ` + sumLatencies + `
		from webhook_statistics` + where + ` group by 1`, args
}

const (
	countWaiting    = `select count(*) from webhook_deliveries where state = 'waiting' and subscription_id = $1`
	countAllWaiting = `select count(*) from webhook_deliveries where state = 'waiting' and subscription_id in (select id from webhook_subscriptions)`
)

// Waiting counts the deliveries of a subscription, or of all that the scope may
// see where id is empty, that were attempted and will be attempted again.
func (t *Tx) Waiting(ctx context.Context, id schemas.SubscriptionID) (n int64, err error) {
	sql, args := countAllWaiting, []any{}
	if id != "" {
		sql, args = countWaiting, []any{string(id)}
	}
	if err := t.tx.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting what waits: %w", err)
	}
	return n, nil
}

// SubscriptionTotals are how many subscriptions the scope may see. Failing are the
// active ones whose last attempt failed.
type SubscriptionTotals struct {
	All, Active, Failing int
}

// CountSubscriptions counts.
func (t *Tx) CountSubscriptions(ctx context.Context) (n SubscriptionTotals, err error) {
	if err := t.tx.QueryRow(ctx, `
		select count(*), count(*) filter (where is_active), count(*) filter (where is_active and first_failure_at is not null)
		from webhook_subscriptions left join webhook_health on subscription_id = id`).Scan(&n.All, &n.Active, &n.Failing); err != nil {
		return n, fmt.Errorf("counting subscriptions: %w", err)
	}
	return n, nil
}

// CompactStatistics merges slots into hours that ended more than a day before, and
// says how many slots went. It needs RoleJobs.
func (t *Tx) CompactStatistics(ctx context.Context, now time.Time) (n int64, err error) {
	const hour = `date_bin('1 hour', slot_at, '2000-01-01 00:00:00+00')`
	err = t.tx.QueryRow(ctx, `
		with old as (delete from webhook_statistics where minutes = 5 and slot_at < $1 returning *),
		buckets as (select subscription_id, `+hour+` as at, i, sum(x)::bigint as x
		  from old, unnest(latencies) with ordinality as l (x, i) group by 1, 2, 3),
		histograms as (select subscription_id, at, array_agg(x order by i) as latencies from buckets group by 1, 2),
		hours as (select subscription_id, min(agent_id) as agent_id, `+hour+` as at, sum(delivered) as delivered, sum(dead) as dead,
		  sum(withheld) as withheld, sum(superseded) as superseded, sum(attempts) as attempts, sum(failed) as failed from old group by 1, 3),
		merged as (insert into webhook_statistics as s (subscription_id, agent_id, minutes, slot_at, `+countColumns+`, latencies)
		  select subscription_id, agent_id, 60, at, `+countColumns+`, coalesce(latencies, '{}')
		  from hours left join histograms using (subscription_id, at) order by 1, 4`+mergeCounts+`)
		select count(*) from old`, now.Truncate(time.Hour).Add(-25*time.Hour)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("compacting statistics: %w", err)
	}
	return n, nil
}

// PurgeStatistics drops what is older than the given age. It needs RoleJobs.
func (t *Tx) PurgeStatistics(ctx context.Context, before time.Time) (int64, error) {
	tag, err := t.tx.Exec(ctx, `delete from webhook_statistics where minutes in (5, 60) and slot_at < $1`, before)
	if err != nil {
		return 0, fmt.Errorf("purging statistics: %w", err)
	}
	return tag.RowsAffected(), nil
}
