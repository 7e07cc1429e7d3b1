package api

import (
	"cmp"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

// window is what a key's rate limit is per.
const window = time.Minute

// A limiter counts the requests of each key in windows that begin with the key's
// own first request. It is of this process: n replicas allow n times as much.
// (httprate is not used: its headers give the end of the window as a date and
// Retry-After as the whole window.)
type limiter struct {
	mu   sync.Mutex
	keys map[schemas.KeyID]usage
}

type usage struct {
	until time.Time
	used  int
}

// A quota is what is left to a caller after a request was counted.
type quota struct {
	limit, left  int
	reset, retry time.Duration // until all is back, and until the next request may pass
	ok           bool          // whether this request may pass
}

// take counts one request of a key.
func (l *limiter) take(key schemas.KeyID, limit int, now time.Time) quota {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, known := l.keys[key]
	if !now.Before(u.until) {
		u = usage{until: now.Add(window)}
		if !known {
			l.forget(now)
		}
	}
	ok := u.used < limit
	if ok {
		u.used++
	}
	l.keys[key] = u
	reset := u.until.Sub(now)
	return quota{limit: limit, left: max(limit-u.used, 0), reset: reset, retry: reset, ok: ok}
}

// forget drops ended windows when a new key comes, so that the map holds no more
// than the keys of a minute or so.
func (l *limiter) forget(now time.Time) {
	if l.keys == nil {
		l.keys = map[schemas.KeyID]usage{}
	}
	for k, u := range l.keys {
		if !now.Before(u.until) {
			delete(l.keys, k)
		}
	}
}

// A Rate is how many requests a caller may make: PerSecond in the long run, Burst
// at once. The zero Rate stands for a default.
type Rate struct {
	PerSecond float64
	Burst     int
}

// What a host may do where the options do not say. A page of the dashboard reads
// six times; a host that brings its homes over writes each of them once.
var (
	defaultHostReads  = Rate{PerSecond: 50, Burst: 500}
	defaultHostWrites = Rate{PerSecond: 10, Burst: 200}
)

// buckets hold the requests of each host to a rate. They are of this process, as a
// limiter is.
type buckets struct {
	rate Rate

	mu    sync.Mutex
	of    map[schemas.HostID]*rate.Limiter
	swept time.Time
}

func newBuckets(r, byDefault Rate) *buckets {
	return &buckets{rate: cmp.Or(r, byDefault), of: map[schemas.HostID]*rate.Limiter{}}
}

// take counts one request of a host.
func (b *buckets) take(h schemas.HostID, now time.Time) quota {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.swept) >= window {
		b.sweep(now)
	}
	l, ok := b.of[h]
	if !ok {
		l = rate.NewLimiter(rate.Limit(b.rate.PerSecond), b.rate.Burst)
		b.of[h] = l
	}
	ok = l.AllowN(now, 1)
	left := l.TokensAt(now)
	return quota{
		limit: b.rate.Burst, left: max(int(left), 0), ok: ok,
		reset: b.wait(float64(b.rate.Burst) - left), retry: b.wait(1 - left),
	}
}

// wait is how long the rate takes to give back so many requests.
func (b *buckets) wait(requests float64) time.Duration {
	return time.Duration(max(requests, 0) / b.rate.PerSecond * float64(time.Second))
}

// sweep drops the buckets that are full again: each is as good as a new one.
func (b *buckets) sweep(now time.Time) {
	b.swept = now
	for h, l := range b.of {
		if l.TokensAt(now) >= float64(b.rate.Burst) {
			delete(b.of, h)
		}
	}
}

// limit applies the key's own rate limit and says so in the answer's headers. A key
// of the platform has none: it seeds and measures.
func (s *server) limit(w http.ResponseWriter, p auth.Principal) error {
	if p.Platform || p.RateLimitPerMinute <= 0 {
		return nil
	}
	q := s.limits.take(p.KeyID, p.RateLimitPerMinute, time.Now())
	if q.announce(w); !q.ok {
		return schemas.Errorf(schemas.TooMany, "rate_limited", "this key may make %d requests a minute; come back in %s", q.limit, seconds(q.retry))
	}
	return nil
}

// limitHost applies the rate of a host's reads or of its writes.
func (s *server) limitHost(w http.ResponseWriter, r *http.Request, h schemas.HostID) error {
	b, what := s.hostWrites, "writes"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		b, what = s.hostReads, "reads"
	}
	q := b.take(h, time.Now())
	if q.announce(w); !q.ok {
		return schemas.Errorf(schemas.TooMany, "rate_limited", "a host may make %g %s a second, and %d at once; come back in %s",
			b.rate.PerSecond, what, b.rate.Burst, seconds(q.retry))
	}
	return nil
}

// hostSends is how many events a host may send, and how many tickets it may ask
// for, in a minute: each is written for every replica.
const hostSends = 60

// limitSends applies it.
func (s *server) limitSends(w http.ResponseWriter, h schemas.HostID) error {
	q := s.limits.take(schemas.KeyID("host "+string(h)), hostSends, time.Now()) // no key's id has a space
	if q.announce(w); !q.ok {
		return schemas.Errorf(schemas.TooMany, "rate_limited", "a host may do this %d times a minute; come back in %s", hostSends, seconds(q.retry))
	}
	return nil
}

// announce writes the quota into the answer's headers.
func (q quota) announce(w http.ResponseWriter) {
	h := w.Header()
	h.Set("RateLimit-Limit", strconv.Itoa(q.limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(q.left))
	h.Set("RateLimit-Reset", wholeSeconds(q.reset))
	if !q.ok {
		h.Set("Retry-After", wholeSeconds(q.retry))
	}
}

// wholeSeconds rounds up: a caller that comes back then is not refused again.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatFloat(math.Ceil(d.Seconds()), 'f', 0, 64)
}

func seconds(d time.Duration) string { return wholeSeconds(d) + "s" }
