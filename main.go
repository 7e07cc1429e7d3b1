// Krib carries bookings from the agents that make them to everybody who has to
// know: signed webhooks, hosts' dashboards, and the raw topics.
package main

import (
	"os"

	"github.com/krib-ai/krib/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr))
}
