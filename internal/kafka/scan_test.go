package kafka

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A cluster that is new has no coordinator for groups for a while.
func TestWhatIsRetriableIsAskedAgain(t *testing.T) {
	wrapped := fmt.Errorf("asking: %w", kerr.CoordinatorNotAvailable)
	for name, c := range map[string]struct {
		answers []error // the last one is repeated
		asked   int
		want    error
		took    time.Duration
	}{
		"at once":        {[]error{nil}, 1, nil, 0},
		"after a while":  {[]error{wrapped, kerr.NotCoordinator, wrapped, nil}, 4, nil, 750 * time.Millisecond},
		"another error":  {[]error{wrapped, kerr.GroupAuthorizationFailed}, 2, kerr.GroupAuthorizationFailed, 250 * time.Millisecond},
		"never, in time": {[]error{wrapped}, 120, kerr.CoordinatorNotAvailable, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, asked := time.Now(), 0
				err := Patiently(t.Context(), func() error {
					asked++
					return c.answers[min(asked, len(c.answers))-1]
				})
				if !errors.Is(err, c.want) || (asked-c.asked)/2 != 0 || time.Since(start) != c.took {
					t.Errorf("%v, after %d questions in %s", err, asked, time.Since(start))
				}
			})
		})
	}
}
