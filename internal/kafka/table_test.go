package kafka

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// follow runs a table of the topic and returns what it has applied so far.
func follow(t *testing.T, conf Config, topic string) (*Table, func() map[string]string) {
	t.Helper()
	var mu sync.Mutex
	got := map[string]string{}
	table, err := NewTable(conf, "table", topic, func(r *kgo.Record) {
		mu.Lock()
		defer mu.Unlock()
		got[string(r.Key)] = string(r.Value)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return table, func() map[string]string {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(got)
	}
}

func current(t *testing.T, table *Table) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := table.WaitUntilCurrent(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestEmptyTableIsCurrentAtOnce(t *testing.T) {
	t.Parallel()
	conf, _ := broker(t, "words", 1)
	table, _ := follow(t, conf, "words")
	current(t, table)
}

func TestTableIsCurrentWithWhatWasWrittenBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "words", 1)
	table, got := follow(t, conf, "words")
	for _, v := range []string{"one", "two", "three"} {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		current(t, table)
		if got()["k"] != v {
			t.Fatalf("current, and holds %q instead of %q", got()["k"], v)
		}
	}
}

// The last offset of a topic that is written in transactions is a marker, which
// readers never see.
func TestTableWhoseTopicEndsInAControlRecordBecomesCurrent(t *testing.T) {
	t.Parallel()
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		conf, _ := broker(t, "words", 1)
		tx, err := kgo.NewClient(append(conf.Options("tx"), TransactionalOptions("tx")...)...)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Close()
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(t.Context(), &kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		table, got := follow(t, conf, "words")
		current(t, table)
		if _, ok := got()["k"]; ok != bool(commit) {
			t.Errorf("committed %v, and holds %v", commit, got())
		}
	}
}

func TestTableWhoseRecordsWereDeletedIsCurrent(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "words", 1)
	produce(t, cl, "words", 0, 3)
	if _, err := kadm.NewClient(cl).DeleteRecords(t.Context(), kadm.Offsets{"words": {0: {Topic: "words", Partition: 0, At: 3}}}); err != nil {
		t.Fatal(err)
	}
	table, _ := follow(t, conf, "words")
	current(t, table)
}

func TestTableThatDoesNotMoveAnswersWithTheContext(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "words", 1)
	produce(t, cl, "words", 0, 1)
	table, err := NewTable(conf, "table", "words", func(*kgo.Record) {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := table.WaitUntilCurrent(ctx); err == nil {
		t.Error("a table that was never run is current")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := table.Run(ended); err != nil {
		t.Error(err)
	}
}

// One transaction may hold a subscription and a booking, and its markers come to
// the partitions one by one. So the table must wait for what is written and not
// decided yet: the last stable offset would be before it.
func TestTableWaitsForATransactionThatIsUnderWay(t *testing.T) {
	t.Parallel()
	conf, _ := broker(t, "words", 1)
	writer, err := kgo.NewClient(append(conf.Options("writer"), TransactionalOptions("writer")...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	table, applied := follow(t, conf, "words")
	if err := writer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := writer.ProduceSync(t.Context(), &kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := table.WaitUntilCurrent(short); err == nil {
		t.Error("the table is current while a record is undecided")
	}
	if err := writer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	current(t, table)
	if got := applied()["k"]; got != "v" {
		t.Errorf("applied %q", got)
	}
}
