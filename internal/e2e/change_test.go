//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/krib-ai/krib/internal/testenv"
)

// A subscription that is changed through one process is changed in every other:
// those who fan out ask for its new events, those who deliver call its new URL.
func TestAChangeOfASubscriptionReachesEveryReplica(t *testing.T) {
	t.Parallel()
	dev, vars := servers(t)
	k := *dev
	k.APIURL = serveRoles(t, "api,relay,sinks,push", maps.Clone(vars))
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			own := maps.Clone(vars)
			own["KRIB_INSTANCE"] = fmt.Sprint("replica-", i)
			serveRoles(t, "fanout,deliver,retry", own)
		})
	}
	wg.Wait()
	before, after := testenv.Receiver(t, nil), testenv.Receiver(t, nil)
	const subscriptions = 6 // whose keys are in several partitions
	ids := make([]string, subscriptions)
	for i := range ids {
		ids[i], _ = k.subscribe(t, fmt.Sprintf("%s/%d", before.URL(), i), "payment.received")
	}
	for i, id := range ids {
		k.agent(t, "PATCH", "/api/v1/external/webhook-subscriptions/"+id, object{
			"webhook_url": fmt.Sprintf("%s/%d", after.URL(), i), "events": []string{"booking.created"}, "filter": "booking.guests == 2",
		})
	}
	booking := k.book(t, 0)
	testenv.Eventually(t, "each has got the booking at its new URL", func() bool {
		n := 0
		for _, r := range after.All() {
			if strings.Contains(string(r.Body), booking) {
				n++
			}
		}
		return n == subscriptions
	})
	if n := before.Count(); n != 0 {
		t.Errorf("%d requests to where nothing should go any more", n)
	}
}
