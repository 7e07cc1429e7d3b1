package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// An audience is many dashboards of the host, each on a connection of its own.
type audience struct {
	conns  []net.Conn
	reads  []*sse.Reader
	wg     sync.WaitGroup
	failed chan error // the first stream that ended by itself

	mu   sync.Mutex
	due  []time.Time // of each event, by its number
	took [][]time.Duration
	got  atomic.Int64
	more chan struct{} // capacity 1: something was got
}

// dialers is how many connections are opened at the same time.
const dialers = 64

// gather opens n streams and returns when each has said that it is connected.
func (b *bench) gather(ctx context.Context, n int) (*audience, error) {
	a := &audience{
		conns: make([]net.Conn, n), reads: make([]*sse.Reader, n), took: make([][]time.Duration, n),
		failed: make(chan error, 1), more: make(chan struct{}, 1),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(dialers)
	for i := range n {
		g.Go(func() error { return b.attend(ctx, a, i) })
	}
	if err := g.Wait(); err != nil {
		a.close()
		return nil, fmt.Errorf("opening %d streams: %w", n, err)
	}
	for i := range n {
		a.wg.Go(func() { a.listen(i) })
	}
	return a, nil
}

func (b *bench) attend(ctx context.Context, a *audience, i int) error {
	dev := &b.child.dev
	addr := strings.TrimPrefix(dev.APIURL, "http://")
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	a.conns[i] = conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, err = fmt.Fprintf(conn, "GET /api/v1/hosts/%s/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", dev.HostID, addr, dev.HostToken.Reveal())
	if err != nil {
		return fmt.Errorf("asking for a stream: %w", err)
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil) //nolint:bodyclose // the connection is closed
	if err != nil {
		return fmt.Errorf("asking for a stream: %w", err)
	}
	a.reads[i] = sse.NewReader(res.Body)
	e, err := a.reads[i].Next()
	if err == nil && e.Name != "connected" {
		err = fmt.Errorf("a stream began with %s %s", e.Name, e.Data)
	}
	return err
}

// listen notes when each event came to one stream.
func (a *audience) listen(i int) {
	for {
		e, err := a.reads[i].Next()
		now := time.Now()
		if err != nil {
			a.fail(err)
			return
		}
		n, ok := numberIn(e.Data)
		if !ok {
			continue
		}
		a.mu.Lock()
		a.took[i] = append(a.took[i], now.Sub(a.due[n]))
		a.mu.Unlock()
		a.got.Add(1)
		select {
		case a.more <- struct{}{}:
		default:
		}
	}
}

func (a *audience) fail(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	select {
	case a.failed <- fmt.Errorf("a stream ended: %w", err):
	default:
	}
}

const titled = "event number "

// numberIn finds the number of an event of ours in a frame.
func numberIn(data string) (int, bool) {
	_, rest, ok := strings.Cut(data, titled)
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, `"`)
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil
}

// next gives an event that is due a number.
func (a *audience) next(due time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = append(a.due, due)
	return len(a.due) - 1
}

// await waits until every stream has had n events since the last clear, and answers
// how long each of them took.
func (a *audience) await(ctx context.Context, n int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	want := int64(n) * int64(len(a.conns))
	for a.got.Load() < want {
		select {
		case <-a.more:
		case err := <-a.failed:
			return nil, err
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d frames came: %w", a.got.Load(), want, ctx.Err())
		}
	}
	return a.clear(), nil
}

func (a *audience) clear() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []time.Duration
	for i := range a.took {
		all = append(all, a.took[i]...)
		a.took[i] = a.took[i][:0]
	}
	a.got.Store(0)
	return all
}

func (a *audience) close() {
	for _, c := range a.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	a.wg.Wait()
}

// notify sends the host a notification that its streams recognise.
func (a *api) notify(ctx context.Context, host schemas.HostID, n int) error {
	_, err := call[map[string]any](ctx, a, http.MethodPost, "/api/v1/hosts/"+string(host)+"/notifications", map[string]any{
		"type": schemas.GuestMessage, "title": titled + strconv.Itoa(n), "message": strings.Repeat("A message of usual length. ", 4),
	})
	return err
}

// spareFiles are what a process has open besides its streams.
const spareFiles = 1000

// mayOpen is how many connections a process of ours may have: Go has raised the soft
// limit to the hard one.
func mayOpen() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 1024 - spareFiles
	}
	return int(min(files.Cur, 1<<20)) - spareFiles
}
