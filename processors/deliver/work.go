package deliver

import (
	"context"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/schemas"
)

// oursWait is how long a delivery waits that our own fault keeps from being
// made: long enough for a person to be told, short enough to be soon after.
const oursWait = 30 * time.Second

// attempt makes one request of a begun job and puts what follows. It is the
// body of a goroutine.
func (w *Worker) attempt(ctx context.Context, j *job) {
	d := &j.d
	sub, err := w.subs.lookup(ctx, d.SubscriptionID, w.table)
	switch {
	case ctx.Err() != nil:
		w.abandon(j)
		return
	case err != nil:
		w.ours(j, err)
		return
	case sub == nil:
		w.withhold(j, schemas.ErrorDeleted)
		return
	case !sub.Active && d.Trigger != schemas.TriggerTest:
		w.withhold(j, schemas.ErrorDisabled)
		return
	}
	at := time.Now()
	if err := sub.fault(at); err != nil {
		w.ours(j, err)
		return
	}
	a := w.sender.send(ctx, d, sub, j.trace, at)
	if a.status == 0 && a.err != nil && ctx.Err() != nil {
		// The partition leaves and its drain is over: whether the receiver got the
		// request is not known, so the next owner makes it again.
		w.abandon(j)
		return
	}
	w.conclude(j, a, at)
}

// conclude turns an answer into records and into what the lane learns of it.
func (w *Worker) conclude(j *job, a answer, at time.Time) {
	v := judge(a.status, a.header, a.err)
	if v.class == schemas.ErrorOurs {
		w.ours(j, a.err)
		return
	}
	if a.err != nil {
		// The attempt says it in a sentence of a closed set.
		w.logger.Debug("an attempt failed", slog.String("delivery_id", string(j.d.ID)), slog.String("subscription_id", string(j.d.SubscriptionID)),
			slog.Int("attempt", j.d.Attempt+1), slog.String("error_class", string(v.class)), slog.Any("error", a.err))
	}
	now := time.Now()
	n := next(w.ladder, &j.d, v, now)
	rec := attemptOf(&j.d, a, at)
	rec.Outcome, rec.ErrorClass, rec.Final = n.outcome, v.class, n.final()
	if n.tier > 0 {
		due := schemas.Stamp(n.due)
		rec.NextAttemptAt = &due
	}
	w.metrics.attempted(n.outcome, v.class, a.took)
	if n.final() {
		w.holds.leaves(j)
	} else {
		d := j.d
		d.NotBefore, d.TurnAt = n.notBefore, nil // its turn has come
		w.holds.stays(j, w.subs.choices(d.SubscriptionID).ordering, backAt(&d, n.tier, now))
	}
	records := []*kgo.Record{w.encode(string(schemas.Attempts), rec.Meta(), &rec, j)}
	if n.topic != "" {
		d := j.d
		d.Attempt++
		d.Hop++
		d.LastStatus, d.LastError = a.status, string(v.class)
		d.NotBefore, d.TurnAt, d.DeadReason = n.notBefore, nil, string(n.dead)
		if n.tier > 0 {
			d.Trigger = schemas.TriggerRetry
		}
		records = append(records, w.encode(n.topic, d.Meta(now), &d, j))
	}
	w.put(j, records)
	// Afterwards, since it lets the next of the booking go. Held behind this one, that
	// is put on a tier at once; there before it, it would come back before it too, find
	// it still away, and follow it in short hops from then on.
	w.lanes.ended(j, w.lesson(v, a, now))
}

// lesson is what an answer says about the endpoint. A refused address or a bad
// URL was never called.
func (w *Worker) lesson(v verdict, a answer, now time.Time) result {
	if v.class == schemas.ErrorRefused || v.class == schemas.ErrorBadURL {
		return result{}
	}
	r := result{counted: true, took: a.took, good: v.outcome == schemas.Delivered}
	r.hung = !r.good && a.took >= lingerAfter && v.class != schemas.ErrorStatus
	if v.shut {
		r.askedFor = v.wait(now)
	}
	if v.outcome == schemas.Gone {
		// Until the word of it has come round and the table says disabled, nothing
		// more is sent to who wants nothing more.
		r.shutFor = lingerAfter
	}
	return r
}

// withhold ends a delivery without a request.
func (w *Worker) withhold(j *job, class schemas.ErrorClass) {
	w.holds.leaves(j)
	w.lanes.ended(j, result{})
	w.skip(j, schemas.Withheld, class)
}

// supersede ends a delivery that a later event of its booking has made needless.
func (w *Worker) supersede(j *job) {
	w.holds.leaves(j)
	w.skip(j, schemas.Superseded, schemas.ErrorSuperseded)
}

// skip says in an attempt that none was made, and why.
func (w *Worker) skip(j *job, o schemas.Outcome, class schemas.ErrorClass) {
	rec := attemptOf(&j.d, answer{}, time.Now())
	rec.Outcome, rec.ErrorClass, rec.Final = o, class, true
	w.metrics.attempted(o, class, 0)
	w.put(j, []*kgo.Record{w.encode(string(schemas.Attempts), rec.Meta(), &rec, j)})
}

// ours parks a delivery that our own fault kept from being made. Its endpoint is
// not charged. A test, which somebody waits for, is told.
func (w *Worker) ours(j *job, cause error) {
	w.metrics.ours.Inc()
	// With our resolver down it would be a line for every delivery; the metric counts.
	w.alarm.Do(func() {
		w.logger.Error("a delivery waits for us to mend our own fault", slog.String("delivery_id", string(j.d.ID)),
			slog.String("subscription_id", string(j.d.SubscriptionID)), slog.Any("error", cause))
	})
	buried := j.d.Trigger == schemas.TriggerTest || len(w.ladder) == 0
	tier := tierFor(w.ladder, oursWait, parkOurs)
	j.d.TurnAt = nil // its turn has come
	if !buried {
		w.holds.stays(j, w.subs.choices(j.d.SubscriptionID).ordering, backAt(&j.d, tier, time.Now()))
	}
	if buried {
		w.bury(j, schemas.ErrorOurs, sayOurs)
	} else {
		w.park(j, tier, parkOurs)
	}
	w.lanes.ended(j, result{}) // afterwards, as in conclude
}

// park puts a begun job on a tier. It uses up no attempt and makes no attempt
// record. The ladder is also a clock: what has grown older than it, because its
// endpoint does not answer or because of us, is dead. A flood is nobody's fault,
// and Retry-After was a promise; those wait on. So does what grew old elsewhere,
// before it ever came here: it is parked once at least.
func (w *Worker) park(j *job, tier time.Duration, why parkReason) {
	now := time.Now()
	if since := clockOf(&j.d); !since.IsZero() && now.Sub(since) > w.longest() && parkedBefore(&j.d) {
		switch why {
		case parkClosed:
			w.bury(j, schemas.ErrorOutOfTime, "it was older than the retry schedule while its endpoint could not be called")
			return
		case parkOurs:
			w.bury(j, schemas.ErrorOurs, "it was older than the retry schedule while we could not make it")
			return
		case parkFlood, parkAsked, parkBehind, parkNotBefore, parkHeld, parkTurn:
		}
	}
	w.metrics.parked[why].Inc()
	d := j.d
	d.Hop++
	w.put(j, []*kgo.Record{w.encode(schemas.TierTopic(tier), d.Meta(now), &d, j)})
}

// clockOf is when a delivery's time began: when it was made, or, under a rate limit,
// when its turn came.
func clockOf(d *schemas.Delivery) time.Time {
	if d.TurnAt != nil && d.TurnAt.After(d.CreatedAt) {
		return *d.TurnAt
	}
	return d.CreatedAt
}

// longest is what a delivery may take whose every attempt runs into its timeout:
// older ones have had their chances, or would have had them.
func (w *Worker) longest() time.Duration {
	return w.ladder.Total() + time.Duration(len(w.ladder)+1)*w.timeout
}

// bury ends a delivery as dead although no request was made now. Tests leave no
// dead letter.
func (w *Worker) bury(j *job, class schemas.ErrorClass, text string) {
	now := time.Now()
	w.holds.leaves(j)
	rec := attemptOf(&j.d, answer{}, now)
	rec.Outcome, rec.ErrorClass, rec.Error, rec.Final = schemas.Dead, class, text, true
	w.metrics.attempted(schemas.Dead, class, 0)
	records := []*kgo.Record{w.encode(string(schemas.Attempts), rec.Meta(), &rec, j)}
	if j.d.Trigger != schemas.TriggerTest {
		d := j.d
		d.Hop++
		d.NotBefore, d.TurnAt, d.DeadReason = nil, nil, string(class)
		records = append(records, w.encode(string(schemas.DeadLetters), d.Meta(now), &d, j))
	}
	w.put(j, records)
}

func (w *Worker) abandon(j *job) {
	w.lanes.ended(j, result{})
	w.lanes.settled(j, false)
	j.item.Abandon()
}

// put queues what follows from a job. What comes back from a tier says also what is
// held now, whether this process had a hold or not: its former owner may have
// written one when the partition had left it.
func (w *Worker) put(j *job, records []*kgo.Record) {
	x := kafka.Effect{Item: j.item, Records: records, Settled: func(durable bool) { w.lanes.settled(j, durable) }}
	ordered := w.subs.choices(j.d.SubscriptionID).ordering
	returned := j.d.Hop > 0 && j.d.BookingID != "" && ordered != "" && ordered != schemas.OrderNone
	if j.touched || returned {
		x.Latest = w.holds.latest(j)
	}
	w.effects.Put(x)
}

// encode makes a record with the trace of the delivery. Values of package
// schemas always encode.
func (w *Worker) encode(topic string, m schemas.Meta, v any, j *job) *kgo.Record {
	m.TraceParent = j.trace
	r, err := kafka.Encode(topic, string(j.d.SubscriptionID), m, v)
	if err != nil {
		panic("deliver: " + err.Error())
	}
	return r
}
