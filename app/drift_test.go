package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

func TestTopicsAreComparedAndRepaired(t *testing.T) {
	t.Parallel()
	c := &testenv.Cluster{}
	c.Config.Brokers = testenv.Brokers(t)
	run := func(args string) (code int, out, errs string) {
		t.Helper()
		return onTopics(t, c, strings.Fields("topics "+args)...)
	}
	if code, out, errs := run("diff"); code != 1 || !strings.Contains(out, `booking.events: topic is "missing", should be "present"; apply repairs it`) || !strings.Contains(errs, "settings differ") {
		t.Errorf("before anything diff ends with %d:\n%s%s", code, out, errs)
	}
	if code, out, errs := run("apply"); code != 0 || !strings.Contains(out, `booking.events: topic was "missing", is "present"`) || !strings.Contains(out, "topics are as they should be") || errs != "" {
		t.Errorf("apply ends with %d:\n%s%s", code, out, errs)
	}
	for _, again := range []string{"diff", "apply"} {
		if code, out, errs := run(again); code != 0 || strings.Count(out, "\n") != 1 || errs != "" {
			t.Errorf("then %s ends with %d:\n%s%s", again, code, out, errs)
		}
	}
	if code, out, _ := run("apply --topic-partitions 13"); code != 1 || !strings.Contains(out, `krib.poison: partitions was "12", is "13"`) ||
		!strings.Contains(out, `booking.events: partitions is "12", should be "13"; apply does not repair it: its keys would move`) {
		t.Errorf("for more partitions apply ends with %d:\n%s", code, out)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Config.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "webhook.attempts", Value: []byte("{}"), Timestamp: time.Now().AddDate(0, -2, 0)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	res, err := kadm.NewClient(cl).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "retention.ms", Value: new("-1")}}, "webhook.attempts")
	if err != nil || res[0].Err != nil {
		t.Fatal(err, res)
	}
	refused := `webhook.attempts: retention.ms is "-1", should be "2592000000"; apply does not repair it: records that are older than 720h0m0s would be deleted; with --force it does`
	testenv.Eventually(t, "the cluster says so", func() bool {
		code, out, _ := run("diff")
		return code == 1 && strings.Contains(out, refused)
	})
	if code, out, _ := run("apply"); code != 1 || !strings.Contains(out, refused) {
		t.Errorf("apply ends with %d:\n%s", code, out)
	}
	if code, out, _ := run("apply --force"); !strings.Contains(out, `webhook.attempts: retention.ms was "-1", is "2592000000"`) {
		t.Errorf("apply --force ends with %d:\n%s", code, out)
	}
}

func TestWhatIsWrongWithTopicsIsOneLine(t *testing.T) {
	t.Parallel()
	c := testenv.Topics(t, nil)
	for args, says := range map[string]string{
		"topics": "say apply or diff", "topics delete": "say apply or diff", "topics apply please": "too many", "topics diff --force": "not defined",
		"topics apply --topic-partitions 0": "whole number from 1",
	} {
		if code, out, errs := onTopics(t, c, strings.Fields(args)...); code != 2 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, says) {
			t.Errorf("krib %s ended with %d, and says %q%q, not %q", args, code, out, errs, says)
		}
	}
}
