package deliver

import (
	"time"

	"github.com/krib-ai/krib/schemas"
)

// A step is where a delivery goes after an attempt.
type step struct {
	outcome   schemas.Outcome
	topic     string             // of the next record; empty for none
	tier      time.Duration      // if topic is a tier
	due       time.Time          // of the next attempt
	notBefore *time.Time         // set when due is not what the tier gives
	dead      schemas.ErrorClass // why it is dead, if it is
}

// final says that nothing follows by itself.
func (s step) final() bool { return s.tier == 0 }

// next decides where a delivery goes after the verdict on its attempt. A test
// and an operational delivery get one attempt; a test leaves no dead letter,
// for somebody saw it fail.
func next(ladder schemas.Ladder, d *schemas.Delivery, v verdict, now time.Time) step {
	switch v.outcome {
	case schemas.Delivered:
		return step{outcome: schemas.Delivered}
	case schemas.Gone:
		if v.class == schemas.ErrorNone {
			return step{outcome: schemas.Gone} // received, and the last one
		}
		return buried(d, schemas.Gone, "gone")
	case schemas.Dead:
		return buried(d, schemas.Dead, v.class)
	case schemas.Retry, schemas.Withheld, schemas.Superseded:
	}
	single := d.Trigger == schemas.TriggerTest || d.Trigger == schemas.TriggerOperational
	rung, ok := ladder.Next(d.Attempt + 1)
	if single || !ok {
		return buried(d, schemas.Dead, schemas.ErrorOutOfTries)
	}
	asked := v.wait(now)
	tier, _ := ladder.Covering(max(rung, asked))
	s := step{outcome: schemas.Retry, topic: schemas.TierTopic(tier), tier: tier, due: now.Add(tier)}
	if asked > 0 {
		// A tier may come up to a tenth early, and is shorter than what was asked for
		// where that exceeds the longest; the receiver's word holds all the same.
		t := schemas.Stamp(now.Add(asked))
		s.notBefore = &t
		if t.After(s.due) {
			s.due = t
		}
	}
	return s
}

func buried(d *schemas.Delivery, o schemas.Outcome, why schemas.ErrorClass) step {
	s := step{outcome: o, dead: why, topic: string(schemas.DeadLetters)}
	if d.Trigger == schemas.TriggerTest {
		s.topic = ""
	}
	return s
}

// attemptOf describes an attempt but for its verdict.
func attemptOf(d *schemas.Delivery, a answer, at time.Time) schemas.Attempt {
	rec := schemas.Attempt{
		DeliveryID: d.ID, EventID: d.EventID, EventType: d.EventType, SubscriptionID: d.SubscriptionID, AgentID: d.AgentID,
		BookingID: d.BookingID, Run: d.Run, Number: d.Attempt + 1, Trigger: d.Trigger,
		StartedAt: schemas.Stamp(at), DurationMS: a.took.Milliseconds(), Status: a.status,
		ResponseBody: a.body, DeliveryCreatedAt: d.CreatedAt, FilterNotAsked: d.FilterNotAsked,
	}
	if a.took > 0 {
		rec.DurationMS = max(rec.DurationMS, 1) // 0 says that no request was made
	}
	if a.err != nil {
		rec.Error = describe(a.err)
	}
	return rec
}
