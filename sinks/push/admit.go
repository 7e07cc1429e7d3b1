package push

import (
	"net/http"
	"strings"
	"time"

	"github.com/krib-ai/krib/internal/caller"
	"github.com/krib-ai/krib/internal/sse"
	"github.com/krib-ai/krib/schemas"
)

// admit takes a slot for a connection, or says why there is none. Abort is what ends
// the connection when it does not end by itself.
func (h *Hub) admit(host schemas.HostID, addr string, abort func()) (*conn, *ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.draining:
		return nil, &ending{codeDrain, "this server is going down; another one takes over"}
	case len(h.conns) >= h.opts.MaxConnections:
		return nil, &ending{codeOverloaded, "this server has as many streams as it may have"}
	case h.opts.MaxPerHost > 0 && h.hosts[host] >= h.opts.MaxPerHost:
		return nil, &ending{codeOverloaded, "this host has as many streams as it may have"}
	case h.opts.MaxPerHost > 0 && h.hosts[host] > 0 && h.hosts[host] >= h.opts.MaxConnections-len(h.conns):
		// The fuller the server, the less one host may have of it: n hosts that take all
		// they can get have one n+1th each, and the last is free for those that have none.
		return nil, &ending{codeOverloaded, "this host has its share of this server's streams"}
	case h.opts.MaxPerAddress > 0 && h.addrs[addr] >= h.opts.MaxPerAddress:
		return nil, &ending{codeOverloaded, "this address has as many streams as it may have"}
	}
	c := &conn{host: host, addr: addr, abort: abort, bound: h.opts.QueueBytes, total: &h.queued, wake: make(chan struct{}, 1)}
	h.conns[c] = struct{}{}
	h.hosts[host]++
	h.addrs[addr]++
	return c, nil
}

// release gives the slot back.
func (h *Hub) release(c *conn) {
	c.drop()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	decrement(h.hosts, c.host)
	decrement(h.addrs, c.addr)
	if h.draining && len(h.conns) == 0 {
		close(h.empty) // once: nobody is admitted while draining
	}
}

// decrement deletes at zero, so that the map does not remember every host that
// ever came.
func decrement[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// addressOf is what a client is counted by: what the API has found out, which knows
// the proxies before it, or the peer.
func addressOf(r *http.Request) string {
	if address := caller.Of(r.Context()); address != "" {
		return strings.Clone(address)
	}
	return caller.Address(r, nil)
}

// drain lets the connections go one by one over the window, so that they do not
// all knock at the next replica in the same instant, and waits a little for the
// last of them.
func (h *Hub) drain() {
	h.mu.Lock()
	h.draining = true
	conns := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	if len(conns) == 0 {
		close(h.empty)
	}
	h.mu.Unlock()

	start := time.Now()
	for i, c := range conns {
		due := start.Add(h.opts.Drain * time.Duration(i) / time.Duration(len(conns)))
		if wait := time.Until(due); wait > time.Millisecond { // a timer for each of thousands costs more than it spreads
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-h.empty:
			}
			t.Stop()
		}
		c.finish(ending{codeDrain, "this server is going down; another one takes over"})
	}
	// Whoever is in the middle of a write that nobody reads is cut off, here or, where
	// net/http has the connection, with the server.
	t := time.NewTimer(2 * sse.LastTimeout)
	defer t.Stop()
	select {
	case <-h.empty:
	case <-t.C:
		for _, c := range conns {
			c.abort()
		}
	}
}
