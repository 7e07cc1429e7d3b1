package deliver_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/internal/testenv"
	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// rawServer answers each connection by hand. Its connections are closed after the
// test.
func rawServer(t *testing.T, answer func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
	)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				answer(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String()
}

func quietServer(t *testing.T, h http.HandlerFunc, start func(*httptest.Server)) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	start(srv)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

// request reads the head of a request; its body need not be read to answer it.
func request(c net.Conn) bool {
	b := make([]byte, 0, 16<<10)
	for !bytes.Contains(b, []byte("\r\n\r\n")) {
		n, err := c.Read(b[len(b):cap(b)])
		if err != nil {
			return false
		}
		b = b[:len(b)+n]
	}
	return true
}

// drip writes s again and again with a pause, until the other side has had enough.
func drip(c net.Conn, s string, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(c, s); err != nil {
			return
		}
	}
}

// flood writes s for as long as the other side reads.
func flood(c net.Conn, s string) {
	b := []byte(strings.Repeat(s, 64<<10/len(s)))
	for {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.CopyN(z, zeros{}, 256<<20); err != nil {
		t.Fatal(err)
	}
	z.Close()
	return b.Bytes()
}

type hostile struct {
	name, url string
	outcome   schemas.Outcome
	class     schemas.ErrorClass
	status    int
}

func after(answer func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if request(c) {
			answer(c)
		}
	}
}

func hostileServers(t *testing.T) []hostile {
	t.Helper()
	const ok = "HTTP/1.1 200 OK\r\n"
	packed := bomb(t)
	closed := rawServer(t, nil)
	closed = closed[:strings.LastIndex(closed, ":")] + ":1" // nobody listens on port 1
	retry, delivered := schemas.Retry, schemas.Delivered
	says := func(text string) string {
		return rawServer(t, after(func(c net.Conn) { _, _ = io.WriteString(c, text) }))
	}
	return []hostile{
		{"never answers", rawServer(t, after(func(c net.Conn) { _, _ = c.Read(make([]byte, 1<<20)); _, _ = c.Read(make([]byte, 1)) })), retry, schemas.ErrorTimeout, 0},
		{"drips headers", rawServer(t, after(func(c net.Conn) { _, _ = io.WriteString(c, ok); drip(c, "X", 100*ms) })), retry, schemas.ErrorTimeout, 0},
		{"drips a body", rawServer(t, after(func(c net.Conn) { _, _ = io.WriteString(c, ok+"Content-Length: 1000\r\n\r\n"); drip(c, ".", 100*ms) })), delivered, schemas.ErrorNone, 200},
		{"endless headers", rawServer(t, after(func(c net.Conn) { _, _ = io.WriteString(c, ok); flood(c, "X-A: aaaaaaaa\r\n") })), retry, schemas.ErrorProtocol, 0},
		{"an endless status line", rawServer(t, after(func(c net.Conn) { flood(c, "HTTP/1.1") })), retry, schemas.ErrorProtocol, 0},
		{"an endless row of 100s", rawServer(t, after(func(c net.Conn) { flood(c, "HTTP/1.1 100 Continue\r\n\r\n") })), retry, schemas.ErrorProtocol, 0},
		{"a body of 10 GB", rawServer(t, after(func(c net.Conn) {
			_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n", ok, int64(10)<<30)
			flood(c, "z")
		})), delivered, schemas.ErrorNone, 200},
		{"a gzip bomb", rawServer(t, after(func(c net.Conn) {
			_, _ = fmt.Fprintf(c, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", ok, len(packed))
			_, _ = c.Write(packed)
		})), delivered, schemas.ErrorNone, 200},
		{"no gzip at all", rawServer(t, after(func(c net.Conn) {
			_, _ = io.WriteString(c, ok+"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd")
		})), delivered, schemas.ErrorNone, 200},
		{"a redirect to a metadata service", rawServer(t, after(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n")
		})), retry, schemas.ErrorStatus, 307},
		{"a metadata service", "http://169.254.169.254/latest/meta-data/", schemas.Dead, schemas.ErrorRefused, 0},
		{"closes in the middle", rawServer(t, after(func(c net.Conn) { _, _ = io.WriteString(c, ok+"Content-Length: 100\r\n\r\nabc") })), delivered, schemas.ErrorNone, 200},
		{"closes in the middle of a refusal", says("HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nabc"), retry, schemas.ErrorStatus, 500},
		{"chunks of garbage", says(ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nnothing\r\n"), delivered, schemas.ErrorNone, 200},
		{"a trailer that is cut", says("HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3\r\nabc\r\n0\r\nX: y"), delivered, schemas.ErrorNone, 202},
		{"204 with a body", says("HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc"), delivered, schemas.ErrorNone, 204},
		{"early hints", says("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n"), delivered, schemas.ErrorNone, 200},
		{"another protocol", rawServer(t, after(func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = c.Read(make([]byte, 1<<20))
			_, _ = c.Read(make([]byte, 1))
		})), retry, schemas.ErrorStatus, 101},
		{"headers that break off", says(ok + "X: y"), retry, schemas.ErrorProtocol, 0},
		{"closes at once", rawServer(t, func(net.Conn) {}), retry, "", 0},
		{"resets", rawServer(t, after(func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) })), retry, schemas.ErrorConnect, 0},
		{"speaks no HTTP", rawServer(t, after(func(c net.Conn) { _, _ = io.WriteString(c, "220 mail.example ESMTP\r\n") })), retry, schemas.ErrorProtocol, 0},
		{"nobody listens", closed, retry, schemas.ErrorConnect, 0},
		{"a stranger's certificate", quietServer(t, http.NotFound, (*httptest.Server).StartTLS), retry, schemas.ErrorTLS, 0},
		{"no TLS behind https", strings.Replace(quietServer(t, http.NotFound, (*httptest.Server).Start), "http:", "https:", 1), retry, schemas.ErrorTLS, 0},
	}
}

// All at once, beside endpoints that are well. It is not parallel, so that the heap
// is its own.
func TestHostileReceiversHurtNobody(t *testing.T) {
	const healthy, each, ill = 3, 60, 6
	w := newWorld(t, 3, time.Hour)
	servers := hostileServers(t)
	well := testenv.Receiver(t, nil)
	var ds []schemas.Delivery
	for i := range healthy {
		w.subscribe(schemas.SubscriptionID(fmt.Sprint("sub_well_", i)), well.URL())
	}
	for i, h := range servers {
		id := schemas.SubscriptionID(fmt.Sprint("sub_ill_", i))
		w.subscribe(id, h.url)
		for n := range ill {
			ds = append(ds, delivery(id, schemas.BookingID(fmt.Sprint("bkg_", n)), 1))
		}
	}
	for n := range each {
		for i := range healthy {
			ds = append(ds, delivery(schemas.SubscriptionID(fmt.Sprint("sub_well_", i)), schemas.BookingID(fmt.Sprint("bkg_", n)), 1))
		}
	}
	peak := watchHeap(t)
	w.work(func(o *deliver.Options) { o.Timeout = 3 * time.Second })
	w.deliver(ds...)
	for range healthy * each {
		well.Next(t)
	}
	judged := map[schemas.SubscriptionID][]schemas.Attempt{}
	for _, a := range w.attempts(healthy*each + ill*len(servers)) {
		judged[a.SubscriptionID] = append(judged[a.SubscriptionID], a)
	}
	for i := range healthy {
		for _, a := range judged[schemas.SubscriptionID(fmt.Sprint("sub_well_", i))] {
			if a.Outcome != schemas.Delivered || a.Number != 1 {
				t.Errorf("a healthy endpoint was hurt: %+v", a)
			}
		}
	}
	for i, h := range servers {
		for _, a := range judged[schemas.SubscriptionID(fmt.Sprint("sub_ill_", i))] {
			h.check(t, a)
		}
	}
	if grown := peak(); grown > 200<<20 {
		t.Errorf("the heap has grown by %d MB", grown>>20)
	}
}

func (h hostile) check(t *testing.T, a schemas.Attempt) {
	t.Helper()
	if a.Outcome != h.outcome || a.Status != h.status || h.class != "" && a.ErrorClass != h.class || len(a.ResponseBody) > 4096 {
		t.Errorf("%s: %s, class %q, status %d, %q, a body of %d bytes", h.name, a.Outcome, a.ErrorClass, a.Status, a.Error, len(a.ResponseBody))
	}
	if a.Error != "" && !slices.Contains(deliver.Sentences, a.Error) {
		t.Errorf("%s: %q is none of the sentences that subscribers may read", h.name, a.Error)
	}
	if h.outcome == schemas.Delivered && h.class != a.ErrorClass {
		t.Errorf("%s: class %q", h.name, a.ErrorClass)
	}
}

// watchHeap measures until the result is asked for: by how much the heap has grown
// at most.
func watchHeap(t *testing.T) (peak func() uint64) {
	t.Helper()
	now := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, most := now(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * ms)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				most = max(most, now())
			}
		}
	}()
	end := sync.OnceFunc(func() {
		close(stop)
		<-done
	})
	t.Cleanup(end)
	return func() uint64 {
		end()
		return most - min(before, most)
	}
}
