//go:build e2e

package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

func subjects(m *testenv.MailServer, to string) []string {
	var out []string
	for _, l := range m.Letters() {
		if slices.Equal(l.To, []string{to}) {
			out = append(out, l.Subject())
		}
	}
	slices.Sort(out)
	return out
}

// From a host's settings to its mailbox, and to its guest's.
func TestABookingIsMailedToItsHostAndItsGuest(t *testing.T) {
	t.Parallel()
	m := testenv.SMTP(t)
	m.Login("krib")
	k := startHere(t, "KRIB_SMTP_URL="+strings.Replace(m.URL(), "//", "//krib:secret@", 1), "KRIB_MAIL_FROM=Krib <no-reply@krib.test>",
		"KRIB_MAIL_DIGEST=0", "KRIB_SMTP_RATE=60000")
	k.host(t, "PUT", "/api/v1/hosts/"+k.HostID+"/settings", object{"email": "host@example.com"})
	id := k.book(t, 0)
	k.host(t, "POST", "/api/v1/hosts/"+k.HostID+"/bookings/"+id+"/confirm", nil)
	k.host(t, "POST", "/api/v1/hosts/"+k.HostID+"/bookings/"+id+"/cancel", object{"reason": "a reason of the host's"})
	testenv.Eventually(t, "both have their mail", func() bool {
		told := ""
		for _, l := range m.Letters() {
			if slices.Equal(l.To, []string{"host@example.com"}) {
				told += l.Text
			}
		}
		return len(subjects(m, "guest0@example.com")) == 2 && strings.Contains(told, "New Booking Request") &&
			strings.Contains(told, "Booking Confirmed") && strings.Contains(told, "Booking Cancelled")
	})
	if got := subjects(m, "guest0@example.com"); !slices.Equal(got, []string{"Your booking is cancelled", "Your booking is confirmed"}) {
		t.Errorf("the guest has %q", got)
	}
	for _, l := range m.Letters() {
		if slices.Equal(l.To, []string{"host@example.com"}) && !strings.Contains(l.Text, k.APIURL+"/dashboard/bookings/"+id) {
			t.Errorf("no link in:\n%s", l.Text)
		}
	}
}

func TestWithoutAMailServerNothingIsMailed(t *testing.T) {
	t.Parallel()
	k := startHere(t)
	k.host(t, "PUT", "/api/v1/hosts/"+k.HostID+"/settings", object{"email": "host@example.com"})
	k.book(t, 0)
	testenv.Eventually(t, "the inbox has it", func() bool {
		return k.host(t, "GET", "/api/v1/hosts/"+k.HostID+"/notifications", nil).number("total_count") > 0
	})
	c, err := pgx.Connect(t.Context(), k.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(t.Context()) }()
	var rows int
	if err := c.QueryRow(t.Context(), `select count(*) from emails`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("%d mails wait, %v", rows, err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.KafkaBrokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	groups, err := kadm.NewClient(cl).ListGroups(t.Context())
	if err != nil || slices.Contains(groups.Groups(), "krib-email") {
		t.Errorf("groups %v, %v", groups.Groups(), err)
	}
	res, err := requests.Get(k.AdminURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || strings.Contains(string(said), "krib_email_") {
		t.Errorf("metrics: %d, %v, and they have those of mail: %t", res.StatusCode, err, strings.Contains(string(said), "krib_email_"))
	}
}
