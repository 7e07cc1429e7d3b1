package api

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/internal/store"
	"github.com/krib-ai/krib/schemas"
)

// statisticsView has the contract's fields, which speak of the last 24 hours, and
// the sums of what the caller's subscriptions have on their own.
type statisticsView struct {
	Total       int         `json:"total_subscriptions"`
	Active      int         `json:"active_subscriptions"`
	Failed      int         `json:"failed_subscriptions"`
	Failing     int         `json:"failing_subscriptions"`
	Recent      int64       `json:"recent_successful_calls_24h"`
	SuccessRate float64     `json:"success_rate"`
	LastUpdated time.Time   `json:"last_updated"`
	Waiting     int64       `json:"waiting"`
	Windows     windowsView `json:"windows"`
}

type windowsView struct {
	Hour windowView `json:"1h"`
	Day  windowView `json:"24h"`
	Week windowView `json:"7d"`
}

// A windowView counts deliveries that ended, those that fail so far, and the requests
// that were made.
type windowView struct {
	Delivered   int64    `json:"delivered"`
	Dead        int64    `json:"dead"`
	Withheld    int64    `json:"withheld"`
	Superseded  int64    `json:"superseded"`
	Attempts    int64    `json:"attempts"`
	Failed      int64    `json:"failed"`
	Failing     int64    `json:"failing"`
	SuccessRate float64  `json:"success_rate"`
	P50         *float64 `json:"latency_p50_ms"`
	P95         *float64 `json:"latency_p95_ms"`
}

func viewWindow(c *store.Counts) windowView {
	return windowView{
		Delivered: c.Delivered, Dead: c.Dead, Withheld: c.Withheld, Superseded: c.Superseded, Attempts: c.Attempts, Failed: c.Failed,
		Failing: c.Failing, SuccessRate: successRate(c), P50: quantile(c.Latencies, 0.5), P95: quantile(c.Latencies, 0.95),
	}
}

func viewWindows(w *store.WindowedCounts) windowsView {
	return windowsView{viewWindow(&w.Hour), viewWindow(&w.Day), viewWindow(&w.Week)}
}

// successRate is the share, in percent with two places, of the deliveries that were
// delivered among those that were, that are dead and that fail so far; 0 when there is
// none.
func successRate(c *store.Counts) float64 {
	all := c.Delivered + c.Dead + c.Failing
	if all == 0 {
		return 0
	}
	return math.Round(float64(c.Delivered)/float64(all)*10000) / 100
}

func quantile(l store.Latencies, q float64) *float64 {
	ms, ok := l.Quantile(q)
	if !ok {
		return nil
	}
	ms = math.Round(ms*10) / 10
	return &ms
}

func (s *server) webhookStatistics(r *http.Request, p auth.Principal) (answer, error) {
	var v statisticsView
	err := s.o.DB.Read(r.Context(), p.Scope(), func(ctx context.Context, tx *store.Tx) error {
		now := schemas.Stamp(time.Now())
		n, err := tx.CountSubscriptions(ctx)
		if err != nil {
			return err
		}
		w, err := tx.Statistics(ctx, "", now)
		if err != nil {
			return err
		}
		waiting, err := tx.Waiting(ctx, "")
		v = statisticsView{
			Total: n.All, Active: n.Active, Failed: n.All - n.Active, Failing: n.Failing, Recent: w.Day.Delivered,
			SuccessRate: successRate(&w.Day),
			LastUpdated: now, Waiting: waiting, Windows: viewWindows(&w),
		}
		return err
	})
	return answer{data: v}, err
}

type subscriptionStatistics struct {
	ID          schemas.SubscriptionID `json:"subscription_id"`
	Waiting     int64                  `json:"waiting"`
	Windows     windowsView            `json:"windows"`
	LastUpdated time.Time              `json:"last_updated"`
}

func (s *server) statistics(r *http.Request, p auth.Principal) (answer, error) {
	id, err := pathID(r, "subscription_id")
	if err != nil {
		return answer{}, err
	}
	v := subscriptionStatistics{ID: schemas.SubscriptionID(id), LastUpdated: schemas.Stamp(time.Now())}
	err = s.ofSubscription(r, p, id, func(ctx context.Context, tx *store.Tx) error {
		w, err := tx.Statistics(ctx, v.ID, v.LastUpdated)
		if err != nil {
			return err
		}
		v.Windows = viewWindows(&w)
		v.Waiting, err = tx.Waiting(ctx, v.ID)
		return err
	})
	return answer{data: v}, err
}
