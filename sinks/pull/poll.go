package pull

import (
	"context"
	"log/slog"
	"time"

	"github.com/segmentio/encoding/json"

	"github.com/krib-ai/krib/schemas"
)

// Pull answers with what follows a cursor. Without events it waits as long as it
// is asked to; while the process stops, it answers at once. Its errors are for the
// caller of the API.
func (l *Log) Pull(ctx context.Context, ask schemas.Pull) (schemas.Pulled, error) {
	r, refused := l.admit(ask.Key, ask.For.AgentID)
	if refused != nil {
		l.metrics.end(refused.code)
		return schemas.Pulled{}, refusal(refused)
	}
	defer l.release(r)
	l.listen(r, &ask.For)
	defer l.unlisten(r)
	pos, err := l.begin(ctx, &ask)
	if err != nil {
		return schemas.Pulled{}, err
	}
	p, err := l.await(ctx, r, pos, &ask)
	if err != nil {
		return schemas.Pulled{}, err
	}
	events := make([]json.RawMessage, 0, len(p.entries))
	for _, e := range p.entries {
		if b := l.body(e); b != nil {
			events = append(events, b)
		}
	}
	l.metrics.polled.Add(float64(len(events)))
	return schemas.Pulled{Events: events, NextCursor: l.at(pos), HasMore: p.more, CompleteSince: l.completeSince()}, nil
}

func refusal(e *ending) error {
	if e.code == codeDrain {
		return schemas.Errorf(schemas.Unavailable, string(codeDrain), "%s", e.reason)
	}
	return schemas.Errorf(schemas.TooMany, "too_many_readers", "%s", e.reason)
}

// await looks until there is a page with events, or the wait is over.
func (l *Log) await(ctx context.Context, r *reader, pos []int64, ask *schemas.Pull) (page, error) {
	over := time.NewTimer(ask.Wait)
	defer over.Stop()
	for {
		p, err := l.next(ctx, pos, &ask.For, limit{ask.Limit, pollBytes})
		if err != nil || len(p.entries) > 0 || ask.Wait == 0 || r.ended() {
			return p, err
		}
		select {
		case <-ctx.Done():
			return page{}, ctx.Err()
		case <-over.C:
			return p, nil
		case <-r.drained:
			return p, nil
		case <-r.wake:
		case <-atOnce(p.more):
		}
	}
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// atOnce is a channel that is ready if yes, and never otherwise.
func atOnce(yes bool) <-chan struct{} {
	if yes {
		return closed
	}
	return nil
}

// body is nil where an event cannot be rendered, which is counted and said: it is
// left out as one that cannot be decoded is.
func (l *Log) body(e *entry) []byte {
	b, err := e.render()
	if err != nil {
		l.metrics.undecodable.Inc()
		l.log.Error("a booking event cannot be rendered",
			slog.Int("partition", int(e.partition)), slog.Int64("offset", e.offset), slog.Any("error", err))
		return nil
	}
	return b
}
