package fanout

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/krib-ai/krib/internal/filter"
	"github.com/krib-ai/krib/schemas"
)

// filters are the compiled filters of the subscriptions in the table, one for
// each text, for as long as one of them has it. It belongs to the goroutine that
// applies records.
type filters struct {
	log    *slog.Logger
	byText map[string]*shared
	// distinct counts the texts, unusable the subscriptions whose filter does not
	// compile.
	distinct, unusable prometheus.Gauge
}

// A shared filter is that of every subscription with its text.
type shared struct {
	*filter.Filter // nil: this version cannot compile it
	users          int
}

func newFilters(log *slog.Logger) *filters {
	return &filters{
		log: log, byText: map[string]*shared{},
		distinct: gauge("krib_fanout_filters", "Distinct filters of the subscriptions."),
		unusable: gauge("krib_fanout_filters_unusable", "Subscriptions whose filter does not compile in this version; they get every event. Alert on any."),
	}
}

// take is the filter of a subscription that enters the table, nil if every event
// matches. A filter was compiled before it was accepted; when a later version
// cannot do it any more, its subscription gets too much rather than too little.
func (f *filters) take(s *schemas.Subscription) *shared {
	if s.Filter == "" {
		return nil
	}
	c, ok := f.byText[s.Filter]
	if !ok {
		compiled, err := filter.Load(s.Filter)
		if err != nil {
			f.log.ErrorContext(context.Background(), "a filter does not compile; its subscriptions get every event",
				slog.String("subscription", string(s.ID)), slog.Any("error", err))
		}
		c = &shared{Filter: compiled}
		f.byText[s.Filter] = c
		f.distinct.Inc()
	}
	c.users++
	if c.Filter == nil {
		f.unusable.Inc()
		return nil
	}
	return c
}

// release is for a subscription that leaves the table.
func (f *filters) release(s *schemas.Subscription) {
	c, ok := f.byText[s.Filter]
	if !ok {
		return
	}
	c.users--
	if c.Filter == nil {
		f.unusable.Dec()
	}
	if c.users == 0 {
		delete(f.byText, s.Filter)
		f.distinct.Dec()
	}
}
