package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/schemas"
)

// broker is a fake cluster with one topic, and a client of it.
func broker(t *testing.T, topic string, partitions int32) (Config, *kgo.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	conf := Config{Brokers: c.ListenAddrs(), Logger: slog.New(slog.DiscardHandler)}
	cl, err := NewProducer(conf, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return conf, cl
}

func produce(t *testing.T, cl *kgo.Client, topic string, partition int32, n int) {
	t.Helper()
	for i := range n {
		r := ToPartition(&kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(i))}, partition)
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// consume runs a consumer until the test ends or stop is called.
func consume(t *testing.T, conf Config, o ParallelOptions) (p *Parallel, stop func()) {
	t.Helper()
	p, err := NewParallel(conf, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("asked to stop, Run answered %v", err)
		}
	})
	t.Cleanup(stop)
	return p, stop
}

func committed(t *testing.T, cl *kgo.Client, group, topic string, partition int32) int64 {
	t.Helper()
	os, err := kadm.NewClient(cl).FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	o, ok := os.Lookup(topic, partition)
	if !ok {
		return -1
	}
	return o.At
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still not true: %s", what)
		}
	}
}

func TestOnlyTheContiguousPartIsCommitted(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 1)
	produce(t, cl, "things", 0, 10)
	items := make(chan *Item, 10)
	_, stop := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, Handle: func(it *Item) { items <- it }})
	var all []*Item
	for range 10 {
		all = append(all, <-items)
	}
	for _, n := range []int{9, 0, 5, 1, 2} {
		if _, ok := all[n].Begin(); !ok {
			t.Fatal("the partition has left")
		}
		all[n].Done()
	}
	stop()
	if got := committed(t, cl, "g", "things", 0); got != 3 {
		t.Errorf("committed %d, want 3", got)
	}
}

// The race: work ends after its partition has left. Its mark, taken then, would
// go into the next autocommit and put the new owner's progress back.
func TestMarkAfterARevokeMovesNothing(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 2)
	for n := range int32(2) {
		produce(t, cl, "things", n, 5)
	}
	var (
		mu   sync.Mutex
		late []*Item
	)
	first, stop := consume(t, conf, ParallelOptions{
		Group: "g", Topics: []string{"things"}, Drain: time.Millisecond,
		Handle: func(it *Item) {
			if _, ok := it.Begin(); !ok {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			late = append(late, it)
		},
	})
	eventually(t, "all is in flight", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(late) == 10
	})
	// The second takes a partition and finishes it. The first has not finished
	// anything and is not asked: its drain is over at once.
	_, stopSecond := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, Handle: func(it *Item) { it.Done() }})
	moved := int32(-1)
	eventually(t, "the second commits a partition", func() bool {
		for n := range int32(2) {
			if committed(t, cl, "g", "things", n) == 5 {
				moved = n
			}
		}
		return moved >= 0
	})
	for _, it := range late {
		if it.Record.Partition == moved {
			if _, ok := it.Begin(); ok {
				t.Error("work began on a partition that had left")
			}
			if it.Record.Offset < 2 {
				it.Done() // late, and only a part: 2 would be committed over 5
			}
		}
	}
	if m := first.Client().MarkedOffsets()["things"]; len(m) > 0 {
		if o, ok := m[moved]; ok {
			t.Errorf("a mark was taken for the partition that left: %v", o)
		}
	}
	stop()
	stopSecond()
	if got := committed(t, cl, "g", "things", moved); got != 5 {
		t.Errorf("the commit went back to %d", got)
	}
}

func TestLeavingPartitionWaitsForWhatIsInFlightAndThenCancelsIt(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 1)
	produce(t, cl, "things", 0, 2)
	begun := make(chan struct{}, 2)
	_, stop := consume(t, conf, ParallelOptions{
		Group: "g", Topics: []string{"things"}, Drain: 200 * time.Millisecond,
		Handle: func(it *Item) {
			ctx, ok := it.Begin()
			if !ok {
				return
			}
			begun <- struct{}{}
			go func() {
				<-ctx.Done()
				if it.Record.Offset == 0 {
					it.Done() // its effect was durable in the last moment
					return
				}
				it.Abandon()
			}()
		},
	})
	<-begun
	<-begun
	stop()
	if got := committed(t, cl, "g", "things", 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
}

func TestSpanIsBoundedAndFetchingGoesOn(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 1)
	produce(t, cl, "things", 0, 300)
	items := make(chan *Item, 1000)
	p, _ := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, MaxRecords: 20, Handle: func(it *Item) { items <- it }})
	seen := 0
	for it := range items {
		if seen == 0 {
			eventually(t, "fetching is paused", func() bool { return len(p.Client().PauseFetchPartitions(nil)["things"]) == 1 })
		}
		it.Done()
		if seen++; seen == 300 {
			break
		}
	}
	eventually(t, "all is committed", func() bool { return committed(t, cl, "g", "things", 0) == 300 })
}

func TestOnePauseReasonDoesNotEndAnother(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 1)
	produce(t, cl, "things", 0, 1)
	items := make(chan *Item, 1)
	p, _ := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, Handle: func(it *Item) { items <- it }})
	part := (<-items).Partition()
	paused := func() bool { return len(p.Client().PauseFetchPartitions(nil)["things"]) == 1 }
	part.Pause(PauseSpan)
	part.Pause(PauseLane)
	part.Resume(PauseSpan)
	if !paused() {
		t.Error("the end of one reason ended the other")
	}
	part.Resume(PauseLane)
	if paused() {
		t.Error("it is paused without a reason")
	}
}

// How long is told of a pause while it lasts: one that never ends is the one to be told
// of.
func TestPausesAreTimedWhileTheyLast(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 1)
	produce(t, cl, "things", 0, 1)
	items := make(chan *Item, 1)
	p, stop := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, Handle: func(it *Item) { items <- it }})
	part := (<-items).Partition()
	stands := func(why PauseReason) bool {
		first := p.PausedFor(why)
		for range 1000 {
			if p.PausedFor(why) != first {
				return false
			}
		}
		return true
	}
	part.Pause(PauseSpan)
	part.Pause(PauseLane)
	if stands(PauseSpan) || stands(PauseLane) {
		t.Error("a pause that lasts does not grow")
	}
	part.Resume(PauseSpan)
	if p.PausedFor(PauseSpan) == 0 || !stands(PauseSpan) || stands(PauseLane) {
		t.Error("one that has ended is forgotten, or grows, or ended the other")
	}
	stop()
	if p.PausedFor(PauseLane) == 0 || !stands(PauseLane) {
		t.Error("one whose partition has left is forgotten, or grows")
	}
}

func TestEffectsMarkAnItemAfterItsRecordsAreWritten(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 1)
	produce(t, cl, "things", 0, 3)
	items := make(chan *Item, 3)
	p, stop := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, Handle: func(it *Item) { items <- it }})
	e := NewEffects("g", p.Client(), conf.Logger, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go e.Run(ctx)
	settled := make(chan bool, 2)
	put := func(it *Item, r *kgo.Record) {
		if _, ok := it.Begin(); !ok {
			t.Fatal("the partition has left")
		}
		e.Put(Effect{Item: it, Records: []*kgo.Record{r}, Settled: func(ok bool) { settled <- ok }})
	}
	put(<-items, &kgo.Record{Topic: "things", Value: []byte("an effect")})
	if !<-settled {
		t.Error("a write that succeeded was called lost")
	}
	// A topic that does not exist: it is tried until the partition leaves.
	put(<-items, &kgo.Record{Topic: "nothing", Value: []byte("an effect")})
	stop()
	if <-settled {
		t.Error("a write that failed was called durable")
	}
	if got := committed(t, cl, "g", "things", 0); got != 1 {
		t.Errorf("committed %d, want 1", got)
	}
}

func TestAStateIsMadeEachTimeThatItIsWritten(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "things", "states"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	conf := Config{Brokers: c.ListenAddrs(), Logger: slog.New(slog.DiscardHandler)}
	cl, err := NewProducer(conf, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	produce(t, cl, "things", 0, 2)
	items := make(chan *Item, 2)
	p, _ := consume(t, conf, ParallelOptions{Group: "g", Topics: []string{"things"}, Handle: func(it *Item) { items <- it }})
	refused := make(chan struct{}, 100)
	e := NewEffects("g", p.Client(), conf.Logger, func() { refused <- struct{}{} })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go e.Run(ctx)
	var state atomic.Int64
	settled := make(chan bool, 2)
	put := func(topic string, at int64) {
		it := <-items
		if _, ok := it.Begin(); !ok {
			t.Fatal("the partition has left")
		}
		state.Store(at)
		e.Put(Effect{
			Item: it, Records: []*kgo.Record{{Topic: topic, Value: []byte("an effect")}}, Settled: func(ok bool) { settled <- ok },
			Latest: func() *kgo.Record { return &kgo.Record{Topic: "states", Value: fmt.Append(nil, state.Load())} },
		})
	}
	put("late", 1) // there is no such topic yet
	<-refused
	put("things", 2)
	if !<-settled {
		t.Fatal("the second was lost")
	}
	if err := CreateTopics(t.Context(), cl, []schemas.Topic{{Name: "late", Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	if !<-settled {
		t.Fatal("the first was lost")
	}
	var states []string
	err = ReadPartition(t.Context(), cl, conf, "test", "states", 0, func(r *kgo.Record) { states = append(states, string(r.Value)) })
	if err != nil || len(states) < 3 || states[0] != "1" || states[len(states)-1] != "2" {
		t.Errorf("states: %v, %v", states, err)
	}
}

func TestAPartitionIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	conf, cl := broker(t, "things", 2)
	got := func(partition int32) (n int, err error) {
		err = ReadPartition(t.Context(), cl, conf, "test", "things", partition, func(*kgo.Record) { n++ })
		return n, err
	}
	if n, err := got(0); n != 0 || err != nil {
		t.Errorf("an empty one has %d records, %v", n, err)
	}
	produce(t, cl, "things", 0, 1000)
	produce(t, cl, "things", 1, 1)
	if n, err := got(0); n != 1000 || err != nil {
		t.Errorf("%d records, %v", n, err)
	}
	if _, err := got(2); err == nil {
		t.Error("a partition that is not there was read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ReadPartition(ctx, cl, conf, "test", "things", 0, func(*kgo.Record) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("when asked to stop: %v", err)
	}
}

func TestProduceAllTellsOnce(t *testing.T) {
	t.Parallel()
	_, cl := broker(t, "things", 1)
	done := make(chan error, 3)
	ProduceAll(t.Context(), cl, nil, func(err error) { done <- err })
	ProduceAll(t.Context(), cl, []*kgo.Record{{Topic: "things"}, {Topic: "things"}}, func(err error) { done <- err })
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ProduceAll(ctx, cl, []*kgo.Record{{Topic: "things"}, {Topic: "things"}}, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
