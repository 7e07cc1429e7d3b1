package docs_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/krib-ai/krib/schemas"
)

// grant gives what a line of kafka-acls.sh gives.
func grant(t *testing.T, adm *kadm.Client, line string) {
	t.Helper()
	args := strings.Fields(line)
	if args[0] != "kafka-acls.sh" || !slices.Contains(args, "--add") {
		t.Fatalf("it adds no ACL: %s", line)
	}
	b, pattern := kadm.NewACLs(), kadm.ACLPatternLiteral
	var operations []kadm.ACLOperation
	var topics []string
	var errs error
	for i, flag := range args {
		var err error
		switch value := append(args, "")[i+1]; flag {
		case "--allow-principal":
			b.Allow(value).AllowHosts()
		case "--operation":
			var op kadm.ACLOperation
			op, err = kmsg.ParseACLOperation(value)
			operations = append(operations, op)
		case "--topic":
			topics = append(topics, value)
		case "--group":
			b.Groups(value)
		case "--transactional-id":
			b.TransactionalIDs(value)
		case "--cluster":
			b.Clusters()
		case "--resource-pattern-type":
			pattern, err = kmsg.ParseACLResourcePatternType(value)
		}
		errs = errors.Join(errs, err)
	}
	if len(topics) > 0 {
		b.Topics(topics...)
	}
	res, err := adm.CreateACLs(t.Context(), b.Operations(operations...).ResourcePatternType(pattern))
	errs = errors.Join(errs, err)
	for _, r := range res {
		errs = errors.Join(errs, r.Err)
	}
	if errs != nil || len(res) == 0 {
		t.Fatalf("%s: %d ACLs, %v", line, len(res), errs)
	}
}

// readOne tries to read the only record of a topic, in a group if one is named.
func readOne(t *testing.T, addrs []string, topic, group string) error {
	t.Helper()
	opts := []kgo.Opt{kgo.SeedBrokers(addrs...), as("analytics"), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	if group != "" {
		opts = append(opts, kgo.ConsumerGroup(group))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return cl.PollFetches(ctx).Err()
}

func as(user string) kgo.Opt {
	return kgo.SASL(plain.Auth{User: user, Pass: "secret"}.AsMechanism())
}

func TestTheDocumentedACLsLetAnalystsReadTwoTopicsAndNoSecrets(t *testing.T) {
	t.Parallel()
	names := topicNames()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "admin", "secret"),
		kfake.User("PLAIN", "analytics", "secret"), kfake.SeedTopics(1, names...))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	admin, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), as("admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for _, name := range names {
		if err := admin.ProduceSync(t.Context(), &kgo.Record{Topic: name, Key: []byte("k")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	allowed := []string{string(schemas.BookingEvents), string(schemas.Attempts)}
	for _, name := range names {
		if err := readOne(t, c.ListenAddrs(), name, ""); !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("before any ACL %s answers %v", name, err)
		}
	}
	for line := range strings.Lines(named(t, analytics, "acls.sh").text) {
		grant(t, kadm.NewClient(admin), line)
	}
	for _, name := range names {
		err := readOne(t, c.ListenAddrs(), name, "")
		if may := slices.Contains(allowed, name); may && err != nil || !may && !errors.Is(err, kerr.TopicAuthorizationFailed) {
			t.Errorf("%s answers %v", name, err)
		}
	}
	if err := readOne(t, c.ListenAddrs(), allowed[0], "analytics-funnel"); err != nil {
		t.Errorf("in a group of its own: %v", err)
	}
	if err := readOne(t, c.ListenAddrs(), allowed[0], "krib-fanout"); !errors.Is(err, kerr.GroupAuthorizationFailed) {
		t.Errorf("in a group of Krib's: %v", err)
	}
}
