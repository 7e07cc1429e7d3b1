package app

import (
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Deadlines of a server. They hold for callers that nothing is known of; the API lifts
// them for a request that was recognised, where its answer may take long.
const (
	headerTime = 5 * time.Second  // until the head of a request is there
	readTime   = 30 * time.Second // until its body is, too
	writeTime  = time.Minute      // from the head until the answer was taken
	idleTime   = 2 * time.Minute  // between requests; longer than a load balancer's
	maxHeader  = 32 << 10         // bytes, of a head with the longest token twice over
)

// adminWriteTime lets an operator take a profile of some minutes.
const adminWriteTime = 6 * time.Minute

// newServer makes one without TLS, and so of HTTP/1.1 only: each connection has one
// request at a time.
func newServer(h http.Handler, writes time.Duration) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writes, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
	}
}

// otherConnections are those that a process takes beside its streams and polls, unless
// KRIB_MAX_CONNECTIONS says how many it takes of all kinds.
const otherConnections = 2000

// reserved are the connections that one address leaves to others, unless
// KRIB_MAX_CONNECTIONS_PER_ADDRESS says how many it may have. Behind a proxy all come
// from one address.
const reserved = 500

// connectionBounds are those of the settings, or what follows from the others.
func (c *config) connectionBounds() (all, each int) {
	all, each = c.connections, c.connectionsPerAddress
	if all == 0 {
		all = c.maxConnections + c.pullMaxReaders + otherConnections
	}
	if each == 0 {
		each = max(all-reserved, all/2, 1)
	}
	return all, each
}

// A boundedListener closes connections beyond its bounds as soon as they are accepted:
// what waits in the kernel's queue would wait behind those that never end.
type boundedListener struct {
	net.Listener

	all, each int
	refused   *prometheus.CounterVec

	mu   sync.Mutex
	open int
	from map[netip.Prefix]int
}

func bound(ln net.Listener, all, each int, reg prometheus.Registerer) *boundedListener {
	l := &boundedListener{Listener: ln, all: all, each: each, from: map[netip.Prefix]int{}}
	l.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "krib_http_connections_refused_total", Help: "Connections that were closed when they came, by the bound that was reached.",
	}, []string{"bound"})
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "krib_http_connections", Help: "Connections of the API's listener.",
	}, func() float64 {
		l.mu.Lock()
		defer l.mu.Unlock()
		return float64(l.open)
	})
	reg.MustRegister(l.refused, open)
	return l
}

// Accept waits for a connection that is within the bounds.
func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // as if it were not here
		}
		network := networkOf(conn.RemoteAddr())
		if name := l.enter(network); name != "" {
			l.refused.WithLabelValues(name).Inc()
			_ = conn.Close() // nothing was read from it
			continue
		}
		return &boundedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(network) })}, nil
	}
}

// enter counts a connection, or names the bound that it is beyond.
func (l *boundedListener) enter(from netip.Prefix) (beyond string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.all:
		return "all"
	case l.from[from] >= l.each:
		return "address"
	}
	l.open++
	l.from[from]++
	return ""
}

func (l *boundedListener) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.from[from]--; l.from[from] == 0 {
		delete(l.from, from)
	}
}

// networkOf is what counts as one address: of IPv6 the 64 bits that one subscriber has.
func networkOf(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // the bits fit
	return p
}

// A boundedConn leaves when it is closed, by the server or by the stream that has taken
// it over.
type boundedConn struct {
	net.Conn

	leave func()
}

// Close may be called more than once.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close() //nolint:wrapcheck // as if it were not here
}
