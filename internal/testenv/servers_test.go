package testenv_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return conn // left open: the database is dropped all the same
}

func tables(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	err := conn.QueryRow(t.Context(), `
select count(*) from pg_class join pg_namespace n on n.oid = relnamespace
where relkind in ('r', 'p') and nspname not like 'pg\_%' and nspname <> 'information_schema'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryTestHasADatabaseOfItsOwn(t *testing.T) {
	first := testenv.PostgresURL(t)
	conn := connect(t, first)
	if _, err := conn.Exec(t.Context(), `create table mine (n int)`); err != nil {
		t.Fatal(err)
	}
	if got := tables(t, connect(t, testenv.PostgresURL(t))); got != 0 {
		t.Errorf("another database has %d tables, want none", got)
	}
	var gone string
	t.Run("inner", func(t *testing.T) {
		gone = testenv.PostgresURL(t)
		connect(t, gone)
	})
	if conn, err := pgx.Connect(t.Context(), gone); err == nil {
		conn.Close(t.Context())
		t.Error("the database of an ended test is still there")
	}
}

func TestAMigratedDatabaseIsReadyAndNotShared(t *testing.T) {
	first, second := connect(t, testenv.Database(t)), connect(t, testenv.Database(t))
	if got := tables(t, first); got == 0 {
		t.Error("no tables, want those of the migrations")
	}
	if _, err := first.Exec(t.Context(), `create table mine (n int)`); err != nil {
		t.Fatal(err)
	}
	if a, b := tables(t, first), tables(t, second); a != b+1 {
		t.Errorf("%d and %d tables, want one more in the first", a, b)
	}
}

func TestBrokersAreTheSameForOneTestAndTakeRecords(t *testing.T) {
	brokers := testenv.Brokers(t)
	if again := testenv.Brokers(t); again[0] != brokers[0] {
		t.Errorf("asked twice, got %v and %v", brokers, again)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestEventuallyAsksUntilItIsTrue(t *testing.T) {
	n := 0
	testenv.Eventually(t, "third time", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

func TestAGivenClusterIsEmptiedForEachTest(t *testing.T) {
	k := testenv.Kafka(t)
	t.Setenv("KRIB_TEST_KAFKA_BROKERS", k.Addrs()[0])
	for range 2 {
		t.Run("borrower", func(t *testing.T) {
			cl, err := kgo.NewClient(kgo.SeedBrokers(testenv.Brokers(t)...),
				kgo.ConsumerGroup("group"), kgo.ConsumeTopics("topic"), kgo.MetadataMinAge(100*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			defer cl.Close()
			admin := kadm.NewClient(cl)
			if topics, err := admin.ListTopics(t.Context()); err != nil || len(topics) > 0 {
				t.Errorf("topics %v (%v), want none", topics.Names(), err)
			}
			if groups, err := admin.ListGroups(t.Context()); err != nil || len(groups) > 0 {
				t.Errorf("groups %v (%v), want none", groups.Groups(), err)
			}
			if _, err := admin.CreateTopic(t.Context(), 1, -1, nil, "topic"); err != nil {
				t.Fatal(err)
			}
			record := &kgo.Record{Topic: "topic", Value: []byte("x")}
			if err := cl.ProduceSync(t.Context(), record).FirstErr(); err != nil {
				t.Fatal(err)
			}
			if err := cl.PollFetches(t.Context()).Err(); err != nil { // the group exists now
				t.Fatal(err)
			}
		})
	}
}
