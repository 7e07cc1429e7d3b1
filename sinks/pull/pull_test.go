package pull_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/encoding/json"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/krib-ai/krib/internal/kafka"
	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/schemas"
	"github.com/krib-ai/krib/sinks/pull"
)

func TestAnAgentPullsItsOwnEventsAndThePlatformAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mine, other, platform := w.key("agent_1", false, 0), w.key("agent_2", false, 0), w.key("agent_3", true, 0)
	r := w.start()
	begin := r.pull(mine).NextCursor
	own := w.publish(happening("bkg_a", 1, schemas.BookingCreated, "agent_1"), happening("bkg_a", 2, schemas.HostResponseNeeded, "agent_1"),
		happening("bkg_a", 3, schemas.BookingCancelled, "agent_1"))
	others := w.publish(happening("bkg_b", 1, schemas.BookingCreated, "agent_2"))
	quiet := happening("bkg_a", 4, schemas.BookingCompleted, "agent_1")
	quiet.HostWebhooks = false
	w.publish(quiet)
	last := w.publish(happening("bkg_a", 5, schemas.BookingCompleted, "agent_1"))
	testenv.Eventually(t, "the last event is read", func() bool {
		ids, _ := r.all(platform, begin)
		return slices.Contains(ids, last[0])
	})
	ids, _ := r.all(mine, begin)
	if want := append(own, last...); !slices.Equal(ids, want) {
		t.Errorf("the agent got %v, want %v", ids, want)
	}
	ids, _ = r.all(other, begin)
	same(t, "another agent", ids, others)
	ids, _ = r.all(platform, begin)
	same(t, "the platform", ids, slices.Concat(own, others, last))
	ids, _ = r.all(mine, begin, "types", "booking.created, booking.cancelled")
	same(t, "two types", ids, []string{own[0], own[2]})
	r.refused(mine, "422", "invalid_request", "types", "booking.created,booking.eaten")
}

func TestAPulledEventIsTheBodyOfItsWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	begin := r.pull(k).NextCursor
	e := happening("bkg_a", 1, schemas.BookingCreated, "agent_1")
	w.publish(e)
	p := r.pull(k, "after", begin, "wait", "30")
	body, err := schemas.BodyOf(e)
	if err != nil || len(p.Events) != 1 {
		t.Fatalf("%v, %+v", err, p)
	}
	if got := p.Events[0]; compact(t, got.Data) != string(body.Data) || got.Sequence != 1 || got.SubscriptionID != nil || got.ID != string(e.ID) {
		t.Errorf("got %+v, want %+v", got, body)
	}
	if age := time.Since(p.CompleteSince); age < 24*time.Hour || age > 25*time.Hour {
		t.Errorf("complete since %v", p.CompleteSince)
	}
}

func TestALongPollAnswersAtOnceWhenSomethingHappens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	begin := r.pull(k).NextCursor
	if p := r.pull(k, "after", begin, "wait", "1"); len(p.Events) != 0 || p.HasMore {
		t.Errorf("nothing has happened, and it got %+v", p)
	}
	got := make(chan *pulled, 1)
	start := time.Now()
	go func() {
		p, err := r.try(t.Context(), k, "after", begin, "wait", "30")
		if err != nil {
			t.Error(err)
		}
		got <- p
	}()
	testenv.Eventually(t, "it waits", func() bool { return r.metric("krib_pull_readers", "") == 1 })
	w.publish(happening("bkg_b", 1, schemas.BookingCreated, "agent_2")) // not for it
	ids := w.publish(happening("bkg_a", 1, schemas.BookingCreated, "agent_1"))
	if p := <-got; p == nil || !slices.Equal(p.ids(), ids) {
		t.Errorf("got %+v, want %v", p, ids)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestReadingBeginsAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	old := w.many("bkg_old", 6, 10, "agent_1")
	middle := time.Now()
	testenv.Eventually(t, "the clock of records has gone on", func() bool { return time.Since(middle) > 5*time.Millisecond })
	since := time.Now().UTC()
	testenv.Eventually(t, "the clock of records has gone on", func() bool { return time.Since(since) > 5*time.Millisecond })
	young := w.many("bkg_new", 6, 10, "agent_1")
	testenv.Eventually(t, "all is read", func() bool {
		ids, _ := r.all(k, r.pull(k, "since", "2020-01-01T00:00:00Z", "limit", "1").NextCursor)
		return len(ids) == len(old)+len(young)-1
	})
	p := r.pull(k, "since", since.Format(time.RFC3339Nano))
	same(t, "since a time", p.ids(), young)
	if p = r.pull(k, "since", "2100-01-01T00:00:00Z"); len(p.Events) != 0 || p.HasMore {
		t.Errorf("since a time to come: %+v", p)
	}
	if ids, _ := r.all(k, p.NextCursor); len(ids) != 0 {
		t.Errorf("after that: %v", ids)
	}
	r.refused(k, "422", "invalid_request", "since", "2020-01-01T00:00:00Z", "after", p.NextCursor)
}

// Memory holds a little of the end only, in both processes, and the second has not
// even read the rest: a cursor from before goes on all the same.
func TestACursorOlderThanMemoryGoesOnOnAnyReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	small := func(o *pull.Options) { o.RingBytes = 4 << 10 }
	first := w.start(small)
	begin := first.pull(k).NextCursor
	ids := w.many("bkg_", 150, 200, "agent_1")
	w.publish(happening("bkg_b", 1, schemas.BookingCreated, "agent_2"))
	second := w.start(small)
	for _, r := range []*replica{first, second} {
		testenv.Eventually(t, "all is read", func() bool {
			got, _ := r.all(k, begin)
			return len(got) == len(ids)
		})
		got, _ := r.all(k, begin, "limit", "7")
		same(t, "pages of seven", got, ids)
		if r.metric("krib_pull_history_reads_total", "") == 0 {
			t.Error("nothing was read from Kafka")
		}
		s := r.follow(k, url.Values{"after": {begin}})
		s.wantControl("connected", begin)
		var streamed []string
		for range ids {
			var e event
			if err := json.Unmarshal([]byte(s.next().Data), &e); err != nil {
				t.Fatal(err)
			}
			streamed = append(streamed, e.ID)
		}
		same(t, "a stream", streamed, ids)
	}
}

// What the log does not have any more is not there; the rest is.
func TestACursorBelowTheStartOfTheLogGoesOnWithWhatIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	first := w.start()
	begin := first.pull(k).NextCursor
	w.many("bkg_old", 30, 10, "agent_1")
	adm := kadm.NewClient(w.c.Client)
	// The policy of this topic deletes nothing, so for a moment it has another.
	remove := "delete"
	if _, err := adm.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &remove}}, topic); err != nil {
		t.Fatal(err)
	}
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	ids := w.many("bkg_new", 30, 200, "agent_1")
	second := w.start(func(o *pull.Options) { o.RingBytes = 1 << 10 })
	testenv.Eventually(t, "the rest is read", func() bool {
		got, _ := second.all(k, begin)
		return len(got) == len(ids)
	})
	got, _ := second.all(k, begin)
	same(t, "what is left", got, ids)
}

func TestAStreamGoesOnAfterTheLastEventID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	first, second := w.start(), w.start()
	s := first.follow(k, nil)
	s.wantControl("connected", "complete_since")
	a := happening("bkg_a", 1, schemas.BookingCreated, "agent_1")
	ids := w.publish(a, happening("bkg_a", 2, schemas.HostResponseNeeded, "agent_1"))
	s.want(ids...)
	for e, err := s.r.Next(); ; e, err = s.r.Next() { // the next heartbeat has a cursor too
		if err != nil {
			t.Fatal(err)
		}
		if s.id = e.ID; e.Name == "heartbeat" {
			break
		}
	}
	s.stop()
	missed := w.publish(happening("bkg_a", 3, schemas.BookingConfirmed, "agent_1"))
	// What stands in the URL is older than what the client has seen.
	s = second.follow(k, url.Values{"since": {"2020-01-01T00:00:00Z"}}, "Last-Event-ID", s.id)
	s.wantControl("connected", s.id)
	s.want(missed...)
	s.want(w.publish(happening("bkg_a", 4, schemas.BookingCompleted, "agent_1"))...)
}

// A polyfill adds lastEventId to the URL of the page at each reconnect, and some
// leave the one before.
func TestAStreamGoesOnAfterTheNewestPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, r := w.key("agent_1", false, 0), w.start()
	s := r.follow(k, nil)
	old := s.next().ID
	s.want(w.publish(happening("bkg_n", 1, schemas.BookingCreated, "agent_1"))...)
	newest := s.id
	s.stop()
	missed := w.publish(happening("bkg_n", 2, schemas.BookingConfirmed, "agent_1"))
	for _, c := range []struct {
		query  url.Values
		header []string
	}{
		{url.Values{"lastEventId": {newest}}, nil},
		{url.Values{"lastEventId": {newest}, "after": {old}}, nil},
		{url.Values{"lastEventId": {newest}, "since": {"2020-01-01T00:00:00Z"}}, nil},
		{url.Values{"lastEventId": {old, newest}}, nil},
		{url.Values{"lastEventId": {old, newest, ""}, "after": {old, old}}, nil},
		{url.Values{"lastEventId": {""}, "after": {old, newest}}, nil},
		{url.Values{"after": {newest}}, nil},
		{url.Values{"lastEventId": {old}, "after": {old}}, []string{"Last-Event-ID", newest}},
		{url.Values{"after": {newest}}, []string{"Last-Event-ID", ""}},
	} {
		s := r.follow(k, c.query, c.header...)
		s.wantControl("connected", newest)
		s.want(missed...)
		s.stop()
	}
	for _, q := range []url.Values{
		{"lastEventId": {"nonsense"}, "after": {newest}}, {"lastEventId": {newest, "nonsense"}}, {"after": {newest, "\x00"}},
	} {
		resp, err := r.get(t.Context(), k, path+"/stream", q)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%v is answered %d", q, resp.StatusCode)
		}
	}
}

func TestARevokedOrExpiredKeyEndsItsStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.start()
	for _, end := range []string{
		`update api_keys set revoked_at = now() where id = $1`, `update api_keys set expires_at = now() where id = $1`,
		`update api_keys set scopes = '{bookings:read}' where id = $1`,
	} {
		k := w.key("agent_1", false, 0)
		s := r.follow(k, nil)
		s.wantControl("connected", "")
		w.exec(end, k.id)
		start := time.Now()
		s.wantControl("disconnect", `"terminal":true`)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if _, err := s.r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestALongPollOfAKeyThatEndsMeanwhileGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	got := make(chan error, 1)
	go func() {
		_, err := r.try(t.Context(), k, "wait", "3")
		got <- err
	}()
	testenv.Eventually(t, "it waits", func() bool { return r.metric("krib_pull_readers", "") == 1 })
	w.exec(`update api_keys set revoked_at = now() where id = $1`, k.id)
	if err := <-got; err == nil || !strings.HasPrefix(err.Error(), "401") {
		t.Errorf("answered %v", err)
	}
}

func TestACursorOfAnotherLogIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	begin := r.pull(k).NextCursor
	r.refused(k, "422", "invalid_cursor", "after", "garbage")
	r.refused(k, "422", "invalid_cursor", "after", begin+"A")
	r.stop()
	adm := kadm.NewClient(w.c.Client)
	if _, err := adm.DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the topic is made anew", func() bool {
		return kafka.CreateTopics(t.Context(), w.c.Client, []schemas.Topic{{Name: topic, Partitions: 3}}) == nil
	})
	r = w.start()
	r.refused(k, "400", "cursor_of_another_log", "after", begin)
	resp, err := r.get(t.Context(), k, path+"/stream", url.Values{"after": {begin}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the stream answered %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
}

// The log of the first cluster life is longer than what the second knows of it.
func TestACursorBeyondTheEndOfTheLogIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	w.many("bkg_", 3, 10, "agent_1")
	end := r.pull(k).NextCursor
	r.refused(k, "400", "cursor_beyond_the_end", "after", pull.MovedCursor(t, end, 1000))
}

func TestASlowReaderIsLetGoAndGoesOnFromItsCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, mark := w.key("agent_1", false, 0), w.key("agent_2", false, 0)
	r := w.start(func(o *pull.Options) { o.RingBytes = 16 << 10 })
	slow, fast := r.follow(k, nil), r.follow(mark, nil)
	slow.wantControl("connected", "")
	fast.wantControl("connected", "")
	// Where this process is too busy to serve a stream from memory, it serves it from
	// the log and lets nobody go; so it is tried again.
	for round := 0; r.metric("krib_pull_disconnects_total", "slow_consumer") == 0; round++ {
		if round == 5 {
			t.Fatal("the slow reader was never let go")
		}
		slow.want(w.publish(happening(fmt.Sprint("bkg_first_", round), 1, schemas.BookingCreated, "agent_1"))...)
		// One by one they could take so long that the writer gives up first.
		begun := time.Now()
		ids := w.atOnce(fmt.Sprint("bkg_", round, "_"), 500, 2<<10, "agent_1")
		testenv.Eventually(t, "it has read nothing for a while", func() bool { return time.Since(begun) > 2*time.Second })
		fast.want(w.publish(happening(fmt.Sprint("bkg_mark_", round), 1, schemas.BookingCreated, "agent_2"))...)
		var got []string
		got, slow = r.drain(slow, k, len(ids))
		same(t, "over all connections", got, ids)
	}
}

// drain reads events, over as many connections as it takes, and what they ended with.
func (r *replica) drain(s *stream, k key, n int) (ids []string, last *stream) {
	t := r.w.t
	t.Helper()
	for connections := 1; ; connections++ {
		for len(ids) < n {
			e, err := s.r.Next()
			if err != nil {
				break
			}
			s.id = e.ID
			if e.Name == "disconnect" && (!strings.Contains(e.Data, `"slow_consumer"`) || !strings.Contains(e.Data, e.ID)) {
				t.Errorf("got %s", e.Data)
			}
			var v event
			if err := json.Unmarshal([]byte(e.Data), &v); err == nil && v.ID != "" {
				ids = append(ids, v.ID)
			}
		}
		if len(ids) == n {
			return ids, s
		}
		if connections > 100 {
			t.Fatalf("after %d connections %d of %d", connections, len(ids), n)
		}
		s = r.follow(k, nil, "Last-Event-ID", s.id)
	}
}

// Others' events fill memory many times over while a stream has nothing to write.
func TestAStreamWithNothingToWriteIsNotTakenForASlowOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start(func(o *pull.Options) { o.RingBytes, o.Heartbeat = 32<<10, time.Hour })
	s := r.follow(k, nil)
	s.wantControl("connected", "")
	w.many("bkg_", 300, 2<<10, "agent_2")
	s.want(w.publish(happening("bkg_mine", 1, schemas.BookingCreated, "agent_1"))...)
}

func TestReadersAreBoundedByKeyAndInAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c, d := w.key("agent_1", false, 0), w.key("agent_1", false, 0), w.key("agent_2", false, 0), w.key("agent_3", false, 0)
	r := w.start(func(o *pull.Options) { o.MaxPerKey, o.MaxReaders = 1, 3 })
	first := r.follow(a, nil)
	first.wantControl("connected", "")
	r.follow(a, nil).wantControl("disconnect", "this key has as many")
	r.follow(a, url.Values{"after": {"no\nevent: cursor"}}).wantControl("disconnect", "this key has as many")
	r.refused(a, "429", "too_many_readers")
	r.follow(b, nil).wantControl("connected", "")
	r.follow(c, nil).wantControl("connected", "")
	r.follow(d, nil).wantControl("disconnect", "this server has as many")
	first.stop()
	testenv.Eventually(t, "its place is free", func() bool {
		_, err := r.try(t.Context(), d)
		return err == nil
	})
}

func TestStoppingLetsReadersGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	s := r.follow(k, nil)
	hello := s.wantControl("connected", "")
	got := make(chan *pulled, 1)
	go func() {
		p, err := r.try(context.WithoutCancel(t.Context()), k, "after", hello.ID, "wait", "30")
		if err != nil {
			t.Error(err)
		}
		got <- p
	}()
	testenv.Eventually(t, "both are there", func() bool { return r.metric("krib_pull_readers", "") == 2 })
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if end := s.wantControl("disconnect", `"drain"`); end.ID == "" || s.r.Retry == 0 {
		t.Errorf("it does not say how to go on: %+v", end)
	}
	if p := <-got; p == nil || p.NextCursor == "" || len(p.Events) != 0 {
		t.Errorf("the poll got %+v", p)
	}
	r.refused(k, "503", "drain")
}

func TestAKeysRateLimitCountsPullsAndNotEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 3)
	r := w.start()
	begin := r.pull(k).NextCursor
	s := r.follow(k, nil)
	s.wantControl("connected", "")
	for v := range int64(20) {
		s.want(w.publish(happening("bkg_a", v+1, schemas.BookingCreated, "agent_1"))...)
	}
	if p := r.pull(k, "after", begin); len(p.Events) != 20 {
		t.Errorf("got %d events", len(p.Events))
	}
	r.refused(k, "429", "rate_limited")
}

func TestWhatCannotBeDecodedIsPassed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	begin := r.pull(k).NextCursor
	for _, v := range []string{"no json", `{"id":"evt_1"}`, ""} {
		w.c.ProduceRecord(t, &kgo.Record{Topic: topic, Key: []byte("bkg_a"), Value: []byte(v)})
	}
	ids := w.publish(happening("bkg_a", 1, schemas.BookingCreated, "agent_1"))
	if p := r.pull(k, "after", begin, "wait", "30"); !slices.Equal(p.ids(), ids) {
		t.Errorf("got %v", p.ids())
	}
	if got := r.metric("krib_pull_undecodable_records_total", ""); got != 3 {
		t.Errorf("%v were counted, want 3", got)
	}
}

// What a guest writes cannot end a frame or begin another.
func TestAFrameHoldsOneLineOfData(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := w.key("agent_1", false, 0)
	r := w.start()
	s := r.follow(k, nil)
	s.wantControl("connected", "")
	e := happening("bkg_a", 1, schemas.BookingCreated, "agent_1")
	e.Booking.SpecialRequests = "one\ntwo\r\n\ndata: three\u2028\x00"
	s.want(w.publish(e, happening("bkg_a", 2, schemas.BookingConfirmed, "agent_1"))...)
}
