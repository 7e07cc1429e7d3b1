package deliver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// namesFresh is how long one name that resolved vouches for our resolver, and
	// one that did not speaks against it.
	namesFresh = 10 * time.Second
	// namesTimeout bounds the question whether our resolver answers at all.
	namesTimeout = 2 * time.Second
)

// names tells whose fault it is that a name does not resolve. A name server that
// fails or hangs looks the same whether it is the domain's or ours; but ours
// would fail for every name. The zero value is ready.
type names struct {
	asking sync.Mutex // one asks, those who come meanwhile take its answer

	mu     sync.Mutex
	host   string    // the last name that resolved
	good   time.Time // when it did
	failed time.Time // when it was last asked for in vain
}

func (n *names) resolved(host string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.host, n.good = host, now
}

// blame returns err, as our own fault if it is of a name whose failure may well
// be our resolver's.
func (n *names) blame(ctx context.Context, err error, r *net.Resolver) error {
	name, ok := errors.AsType[*net.DNSError](err)
	if !ok || name.IsNotFound || n.resolve(ctx, r) {
		return err
	}
	return fmt.Errorf("%w: %w", errOurs, err)
}

// resolve says whether other names resolve. Where connections are kept, minutes
// may pass without a look-up, so the last good name is asked for again.
func (n *names) resolve(ctx context.Context, r *net.Resolver) bool {
	n.asking.Lock()
	defer n.asking.Unlock()
	n.mu.Lock()
	host, good, failed := n.host, n.good, n.failed
	n.mu.Unlock()
	switch now := time.Now(); {
	case now.Sub(good) < namesFresh:
		return true
	case host == "" || now.Sub(failed) < namesFresh:
		return false
	}
	once, cancel := context.WithTimeout(ctx, namesTimeout)
	defer cancel()
	if _, err := r.LookupHost(once, host); err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if ctx.Err() == nil { // else it was we who ended the question
			n.failed = time.Now()
		}
		return false
	}
	n.resolved(host, time.Now())
	return true
}
