package embedded

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The process is killed with a transaction open. Its records are the end of the
// partition; a reader must get past them, or it waits for that end for ever.
func TestAReaderReachesTheEndOfALogThatAKillHasLeft(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	k := startKafka(t, KafkaOptions{Dir: dir})
	createTopics(t, client(t, k))
	writer := client(t, k, kgo.TransactionalID("writer"))
	if err := writer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, writer, table, "undecided", time.Now())
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil { // what a kill at this moment leaves
		t.Fatal(err)
	}
	k = startKafka(t, KafkaOptions{Dir: left})
	cl := client(t, k, kgo.ConsumeTopics(table), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(table, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for next := int64(0); next < end.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("at %d of %d: %v", next, end.Offset, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				t.Errorf("read %q, which was never committed", r.Value)
			}
			next = r.Offset + 1
		})
	}
}

// The killed process comes back with the same transactional id and commits. A
// reader that begins before the kill must see it.
func TestWhatIsCommittedAfterAKillIsSeenByAReaderFromBefore(t *testing.T) {
	dir, left := t.TempDir(), t.TempDir()
	k := startKafka(t, KafkaOptions{Dir: dir})
	createTopics(t, client(t, k))
	commit := func(cl *kgo.Client, value string) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		produce(t, cl, table, value, time.Now())
		if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	writer := client(t, k, kgo.TransactionalID("writer"))
	commit(writer, "before")
	if err := writer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, writer, table, "undecided", time.Now())
	if err := os.CopyFS(left, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	k = startKafka(t, KafkaOptions{Dir: left})
	commit(client(t, k, kgo.TransactionalID("writer")), "after")
	cl := client(t, k, kgo.ConsumeTopics(table), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	for len(got) < 2 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %q: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if got[0] != "before" || got[1] != "after" {
		t.Errorf("read %q", got)
	}
}

func TestACleanCloseIsNotMended(t *testing.T) {
	dir := t.TempDir()
	k := startKafka(t, KafkaOptions{Dir: dir})
	createTopics(t, client(t, k))
	produce(t, client(t, k), table, "first", time.Now())
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	k = startKafka(t, KafkaOptions{Dir: dir})
	ends, err := kadm.NewClient(client(t, k)).ListEndOffsets(t.Context(), table)
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup(table, 0); end.Offset != 1 {
		t.Errorf("the log ends at %d, want 1", end.Offset)
	}
}
