package app

import (
	"fmt"
	"io"
	"time"

	"github.com/krib-ai/krib/schemas"
)

// banner is what a person sees when everything is ready. Its three lines work
// when they are pasted, also twice.
func banner(out io.Writer, f *devFile, feed schemas.Feed, dir string) error {
	begin := feed.At(feed.Partition(f.HostID), 0)
	in := schemas.DateOf(time.Now()).AddDays(30)
	_, err := fmt.Fprintf(out, `
krib is ready: POST a booking, see it arrive.

  API        %[1]s/api/health
  dashboard  %[2]s#host=%[3]s&token=%[4]s
  receiver   %[5]s/received
  admin      %[6]s/metrics
  Kafka      %[7]v (plain clients welcome)
  data       %[8]s (dev.json has all of this)

1. Subscribe the sample receiver to booking events:
curl -sS %[1]s/api/v1/external/webhook-subscriptions -H 'Authorization: Bearer %[9]s' -H 'Content-Type: application/json' -d '{"agent_name":"My agent","webhook_url":"%[5]s/hook","events":["booking.created","booking.confirmed","booking.cancelled","host.response_needed"],"api_key":"my-own-secret"}'

2. Book two nights:
curl -sS %[1]s/api/v1/bookings -H 'Authorization: Bearer %[9]s' -H 'Content-Type: application/json' -d '{"property_id":"%[10]s","check_in":"%[11]s","check_out":"%[12]s","guests":2,"guest_info":{"first_name":"Amira","last_name":"Haddad","email":"amira@example.com","phone":"501234567"},"total_amount":950.00}'

3. See the signed webhooks, then the host's inbox and its stream from the beginning, which goes on live:
curl -sS %[5]s/received; curl -sS %[1]s/api/v1/hosts/%[3]s/notifications -H 'Authorization: Bearer %[4]s'; curl -sSN '%[1]s/api/v1/hosts/%[3]s/events?last_event_id=%[13]s' -H 'Authorization: Bearer %[4]s'

Ctrl-C stops it.
`, f.APIURL, f.DashboardURL, f.HostID, f.HostToken, f.ReceiverURL, f.AdminURL, f.KafkaBrokers, dir, f.APIKey, f.PropertyID, in, in.AddDays(2), begin)
	if err != nil {
		return fmt.Errorf("writing the banner: %w", err)
	}
	return nil
}
