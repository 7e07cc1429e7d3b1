package app

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// envFileName is a shell's file: what dev.json says as variables, and functions around
// curl. README, the banner and docs/AGENTS.md begin with it, so that their steps are
// the same and short.
const envFileName = "env.sh"

//go:embed env.sh
var shellFunctions string

// quoted is a word of the shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func writeEnv(path string, f *devFile) error {
	var b strings.Builder
	b.WriteString("# krib dev writes this file when it is ready and removes it when it stops: . .krib/env.sh\n")
	for _, v := range [][2]string{
		{"API", f.APIURL},
		{"KEY", f.APIKey},
		{"PROPERTY", string(f.PropertyID)},
		{"RECEIVER", f.ReceiverURL},
		{"HOST_ID", string(f.HostID)},
		{"HOST_TOKEN", f.HostToken},
		{"DASHBOARD", f.dashboard()},
	} {
		fmt.Fprintf(&b, "%s=%s\n", v[0], quoted(v[1]))
	}
	b.WriteString("\n" + shellFunctions)
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// dashboard is the host's page, opened.
func (f *devFile) dashboard() string {
	return f.DashboardURL + "#host=" + string(f.HostID) + "&token=" + f.HostToken
}

// steps are those of README.md, as they stand there; each may be repeated, in any run.
const steps = `Subscribe the sample receiver, which verifies what it gets:
call "$API/api/v1/external/webhook-subscriptions" -d '{"agent_name": "My agent", "webhook_url": "'$RECEIVER'/hook",
  "events": ["booking.created", "booking.confirmed", "booking.cancelled"], "api_key": "a secret of my receiver"}'

Book two nights that are free, and see the signed webhook at the receiver:
free_nights
BOOKING=$(call "$API/api/v1/bookings" -d '{"property_id": "'$PROPERTY'", "check_in": "'$IN'", "check_out": "'$OUT'", "guests": 2, "total_amount": 950.00,
  "guest_info": {"first_name": "Amira", "last_name": "Haddad", "email": "amira@example.com", "phone": "501234567"}}' | member booking_id)
webhook "$BOOKING" booking.created

See the inbox of the host, and the link to its page, which is live; then cancel, and see that arrive:
as_host "$API/api/v1/hosts/$HOST_ID/notifications?limit=1"; echo "$DASHBOARD"
call -X PUT "$API/api/v1/external/bookings/$BOOKING/status" -d '{"status": "cancelled"}'
webhook "$BOOKING" booking.cancelled
`

// banner is what a person sees when everything is ready.
func banner(out io.Writer, f *devFile, dir string) error {
	_, err := fmt.Fprintf(out, `
krib is ready: POST a booking, see it arrive.

  API        %[1]s/ (documents, contracts)
  dashboard  %[2]s
  receiver   %[3]s/received
  admin      %[4]s/metrics
  Kafka      %[5]v (plain clients welcome)
  data       %[6]s (dev.json has all of this)

In another shell:
. %[7]s

%[8]s
Ctrl-C stops it.
`, f.APIURL, f.dashboard(), f.ReceiverURL, f.AdminURL, f.KafkaBrokers, dir, quoted(filepath.Join(dir, envFileName)), steps)
	if err != nil {
		return fmt.Errorf("writing the banner: %w", err)
	}
	return nil
}
