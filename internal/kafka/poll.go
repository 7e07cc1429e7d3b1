package kafka

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Poll hands what a member of a group fetches to handle, at most so many records at a
// time, until ctx ends; then it is nil. No partition leaves while handle works, so
// handle may take no longer than the rebalance timeout. Fetches that failed are
// logged, and the client tries them again by itself. Poll closes the client.
func Poll(ctx context.Context, cl *kgo.Client, log *slog.Logger, group string, most int, handle func(kgo.Fetches)) error {
	defer cl.CloseAllowingRebalance()
	for {
		fetches := cl.PollRecords(ctx, most)
		if ctx.Err() != nil {
			return nil
		}
		if fetches.IsClientClosed() {
			return fmt.Errorf("polling as %s: %w", group, kgo.ErrClientClosed)
		}
		fetches.EachError(func(topic string, p int32, err error) {
			log.WarnContext(ctx, "fetching failed; it is tried again", slog.String("topic", topic), slog.Int("partition", int(p)), slog.Any("error", err))
		})
		handle(fetches)
		cl.AllowRebalance()
	}
}
