package push

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/krib-ai/krib/schemas"
)

const watchers = 1000

// A crowd reads from many connections and counts blank lines, the ends of events.
type crowd struct {
	seen  chan struct{}
	wg    sync.WaitGroup
	conns []net.Conn
}

func (c *crowd) read(conn net.Conn, r *bufio.Reader) {
	c.conns = append(c.conns, conn)
	c.wg.Go(func() {
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == 1 {
				c.seen <- struct{}{}
			}
		}
	})
}

func (c *crowd) await(n int) {
	for range n {
		<-c.seen
	}
}

func (c *crowd) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.wg.Wait()
}

// One announcement to a thousand dashboards over real sockets, from its release
// to the last of them that has read it. Beside it what the machine does for a
// thousand bare writes of the same bytes; readers share the processors in both.
func BenchmarkFanOut(b *testing.B) {
	b.Run("hub", func(b *testing.B) {
		h, err := New(Options{
			Feed: schemas.Feed{TopicID: "t", Partitions: 1}, Logger: discard, MaxPerHost: watchers, MaxPerAddress: watchers, Heartbeat: time.Hour,
			Released: func(context.Context) (map[int32]int64, error) { return nil, nil },
		})
		if err != nil {
			b.Fatal(err)
		}
		p := h.parts[0]
		p.begin(0, 0, 1<<60, time.Now())
		close(h.started)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.Serve(w, r, "host", time.Time{}, schemas.FeedFilter{}) }))
		defer srv.Close()
		c := &crowd{seen: make(chan struct{}, watchers)}
		defer c.close()
		for range watchers {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			if _, err := conn.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil { // 1.0: no chunks to take apart
				b.Fatal(err)
			}
			r := bufio.NewReader(conn)
			for blank := 0; blank < 2; { // the end of the headers, and connected
				line, err := r.ReadString('\n')
				if err != nil {
					b.Fatal(err)
				}
				if strings.TrimRight(line, "\r\n") == "" {
					blank++
				}
			}
			c.read(conn, r)
		}
		next := int64(0)
		for b.Loop() {
			next++
			p.add([]*entry{{frame: frame{benchFrame, next}}}, next, next, time.Now())
			c.await(watchers)
		}
		b.ReportMetric(float64(b.N)*watchers/b.Elapsed().Seconds(), "frames/s")
	})
	b.Run("bare", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer ln.Close()
		c := &crowd{seen: make(chan struct{}, watchers)}
		defer c.close()
		var out []net.Conn
		for range watchers {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			end, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer end.Close()
			out = append(out, end)
			c.read(conn, bufio.NewReader(conn))
		}
		for b.Loop() {
			for _, conn := range out {
				if _, err := conn.Write(benchFrame); err != nil {
					b.Fatal(err)
				}
			}
			c.await(watchers)
		}
		b.ReportMetric(float64(b.N)*watchers/b.Elapsed().Seconds(), "frames/s")
	})
}

var benchFrame = []byte("id: 0123456789-0-1\nevent: notification\ndata: " + strings.Repeat("x", 350) + "\n\n")
