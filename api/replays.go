package api

import (
	"context"
	"net/http"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/producers"
	"github.com/krib-ai/krib/schemas"
)

type replayBody struct {
	Since      *time.Time          `json:"since"`
	Until      *time.Time          `json:"until"`
	BookingID  schemas.BookingID   `json:"booking_id" check:"max=255,line"`
	EventTypes []schemas.EventType `json:"event_types" check:"min=1,max=50,each=100"`
	OnlyFailed bool                `json:"only_failed"`
	DryRun     bool                `json:"dry_run"`
}

func (b *replayBody) command() producers.NewReplay {
	return producers.NewReplay{DryRun: b.DryRun, Range: schemas.ReplayRange{
		Since: b.Since, Until: b.Until, BookingID: b.BookingID, EventTypes: b.EventTypes, OnlyFailed: b.OnlyFailed,
	}}
}

type replayView struct {
	ID             schemas.ReplayID       `json:"id"`
	SubscriptionID schemas.SubscriptionID `json:"subscription_id"`
	Kind           string                 `json:"kind"` // replay, or retry of what was sent before
	State          schemas.ReplayState    `json:"state"`
	Reason         *schemas.ReplayReason  `json:"reason"`
	DryRun         bool                   `json:"dry_run"`
	Run            int64                  `json:"run"`
	Since          *time.Time             `json:"since"`
	Until          *time.Time             `json:"until"`
	BookingID      *schemas.BookingID     `json:"booking_id"`
	EventTypes     []schemas.EventType    `json:"event_types"`
	OnlyFailed     bool                   `json:"only_failed"`
	DeliveryID     *schemas.DeliveryID    `json:"delivery_id"`
	// CompleteSince is set where the range begins earlier: before it there is only the
	// last event of each booking.
	CompleteSince *time.Time         `json:"complete_since"`
	Progress      replayProgressView `json:"progress"`
	CreatedAt     time.Time          `json:"created_at"`
	StartedAt     *time.Time         `json:"started_at"`
	FinishedAt    *time.Time         `json:"finished_at"`
}

// replayProgressView counts deliveries: matched is how many there are so far, and
// produced = waiting + finished, which are those of the four outcomes.
type replayProgressView struct {
	ReadPercent float64 `json:"read_percent"`
	Matched     int64   `json:"matched"`
	Produced    int64   `json:"produced"`
	Waiting     int     `json:"waiting"`
	Finished    int64   `json:"finished"`
	Delivered   int64   `json:"delivered"`
	Failed      int64   `json:"failed"`
	Withheld    int64   `json:"withheld"`
	Superseded  int64   `json:"superseded"`
}

func (s *server) viewReplay(r *schemas.Replay) replayView {
	v := replayView{
		ID: r.ID, SubscriptionID: r.SubscriptionID, Kind: "replay", State: r.State, Reason: orNull(r.Reason), DryRun: r.DryRun, Run: r.Run,
		Since: r.Range.Since, Until: r.Range.Until, BookingID: orNull(r.Range.BookingID), EventTypes: r.Range.EventTypes,
		OnlyFailed: r.Range.OnlyFailed, DeliveryID: orNull(r.Range.DeliveryID), Progress: viewReplayProgress(r),
		CreatedAt: r.CreatedAt, StartedAt: r.StartedAt, FinishedAt: r.FinishedAt,
	}
	if v.EventTypes == nil {
		v.EventTypes = []schemas.EventType{}
	}
	if r.Trigger == schemas.TriggerManual {
		v.Kind = "retry"
	}
	if whole := r.CreatedAt.Add(-s.o.ReplayWindow); r.Range.Since == nil || r.Range.Since.Before(whole) {
		v.CompleteSince = &whole
	}
	return v
}

func viewReplayProgress(r *schemas.Replay) replayProgressView {
	p := &r.Progress
	v := replayProgressView{
		ReadPercent: float64(int(p.Read()*1000)) / 10, Matched: p.Matched, Produced: p.Produced, Waiting: len(p.Waiting), Finished: p.Produced - int64(len(p.Waiting)),
		Delivered: p.Ended[schemas.Delivered], Failed: p.Ended[schemas.Dead] + p.Ended[schemas.Gone],
		Withheld: p.Ended[schemas.Withheld], Superseded: p.Ended[schemas.Superseded],
	}
	if r.State == schemas.ReplayDone {
		v.ReadPercent = 100 // also of a range without any record
	}
	return v
}

// startReplay answers a dry run with its count where that is quick, and else with
// the job, which counts on.
func (s *server) startReplay(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	in, once, err := decodeOnce[replayBody](r)
	if err != nil {
		return answer{}, err
	}
	job, err := s.o.Producer.StartReplay(r.Context(), p.Scope(), once, schemas.SubscriptionID(id), in.command())
	if err != nil {
		return answer{}, err
	}
	if !job.DryRun {
		return answer{data: s.viewReplay(&job), message: "Replay started"}, nil
	}
	job, err = s.counted(r.Context(), p, job)
	if err != nil {
		return answer{}, err
	}
	message := "Counted; nothing was sent"
	if !job.State.Ended() {
		message = "Still counting; ask for this replay again"
	}
	return answer{data: s.viewReplay(&job), message: message}, nil
}

// countPatience is how long the caller of a dry run waits for its end.
const countPatience = 15 * time.Second

func (s *server) counted(ctx context.Context, p auth.Principal, job schemas.Replay) (schemas.Replay, error) {
	over := time.NewTimer(countPatience)
	defer over.Stop()
	for wait := firstLook; ; wait = laterLook(wait) {
		var err error
		if job, err = s.readReplay(ctx, p, job.SubscriptionID, job.ID); err != nil || job.State.Ended() {
			return job, err
		}
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-over.C:
			return job, nil
		case <-time.After(wait):
		}
	}
}

// readReplay reads a job, and what has become of the deliveries that waited when
// its progress was last saved.
func (s *server) readReplay(ctx context.Context, p auth.Principal, sub schemas.SubscriptionID, id schemas.ReplayID) (job schemas.Replay, err error) {
	err = s.o.DB.Read(ctx, p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		if job, err = tx.Replay(ctx, sub, id); err != nil {
			return err
		}
		ended, err := tx.ReplayOutcomes(ctx, &job)
		job.Progress.Settle(ended)
		return err
	})
	return job, err
}

type replayQuery struct {
	Limit  int `json:"limit" check:"min=1,max=100" default:"50"`
	Offset int `json:"offset" check:"min=0,max=1000000" default:"0"`
}

type replayPage struct {
	Replays       []replayView `json:"replays"`
	TotalCount    int          `json:"total_count"`
	ReturnedCount int          `json:"returned_count"`
	HasMore       bool         `json:"has_more"`
}

func (s *server) replays(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	q, err := query[replayQuery](r)
	if err != nil {
		return answer{}, err
	}
	var v replayPage
	err = s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Subscription(ctx, schemas.SubscriptionID(id)); err != nil {
			return err
		}
		jobs, total, err := tx.Replays(ctx, schemas.SubscriptionID(id), q.Limit, q.Offset)
		v.Replays, v.TotalCount, v.ReturnedCount = make([]replayView, len(jobs)), total, len(jobs)
		for i := range jobs {
			ended, err := tx.ReplayOutcomes(ctx, &jobs[i])
			if err != nil {
				return err
			}
			jobs[i].Progress.Settle(ended)
			v.Replays[i] = s.viewReplay(&jobs[i])
		}
		return err
	})
	v.HasMore = nextOffset(q.Offset, v.ReturnedCount, v.TotalCount) != nil
	return answer{data: v}, err
}

// replayPath are the ids of a path with both.
func replayPath(r *http.Request) (schemas.SubscriptionID, schemas.ReplayID, error) {
	sub, err := pathID(r, "subscription_id")
	if err != nil {
		return "", "", err
	}
	id, err := pathID(r, "replay_id")
	return schemas.SubscriptionID(sub), schemas.ReplayID(id), err
}

func (s *server) replay(r *http.Request, p auth.Principal) (answer, error) {
	sub, id, err := replayPath(r)
	if err != nil {
		return answer{}, err
	}
	job, err := s.readReplay(r.Context(), p, sub, id)
	return answer{data: s.viewReplay(&job)}, err
}

func (s *server) cancelReplay(r *http.Request, p auth.Principal) (answer, error) {
	sub, id, err := replayPath(r)
	if err != nil {
		return answer{}, err
	}
	job, err := s.o.Producer.CancelReplay(r.Context(), p.Scope(), sub, id)
	if err != nil {
		return answer{}, err
	}
	message := "Replay cancelled; what is on its way may still arrive"
	if job.State != schemas.ReplayCancelled {
		message = "This replay had ended already"
	}
	return answer{data: s.viewReplay(&job), message: message}, nil
}

type retryFailedBody struct {
	Since *time.Time `json:"since" check:"required"`
	Until *time.Time `json:"until"`
}

func (s *server) retryFailed(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	in, once, err := decodeOnce[retryFailedBody](r)
	if err != nil {
		return answer{}, err
	}
	job, err := s.o.Producer.RetryFailed(r.Context(), p.Scope(), once, schemas.SubscriptionID(id), *in.Since, in.Until)
	return answer{data: s.viewReplay(&job), message: "The failed deliveries of this time are sent again"}, err
}

func (s *server) retryDelivery(r *http.Request, p auth.Principal) (answer, error) {
	sub, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	id, err := pathID(r, "delivery_id")
	if err != nil {
		return answer{}, err
	}
	once, err := idempotency(r, nil)
	if err != nil {
		return answer{}, err
	}
	job, err := s.o.Producer.RetryDelivery(r.Context(), p.Scope(), once, schemas.SubscriptionID(sub), schemas.DeliveryID(id))
	return answer{data: s.viewReplay(&job), message: "The delivery is sent again"}, err
}
