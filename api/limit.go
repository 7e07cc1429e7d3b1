package api

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

// window is what a key's rate limit is per.
const window = time.Minute

// A limiter counts the requests of each key in windows that begin with the key's
// own first request. It is of this process: n replicas allow n times as much.
// (httprate is not used: its headers tell the end of the window as a date and
// Retry-After as the whole window.)
type limiter struct {
	mu   sync.Mutex
	keys map[schemas.KeyID]usage
}

type usage struct {
	until time.Time
	used  int
}

// take uses one request up. It says how many are left, when the window ends, and
// whether this one may pass.
func (l *limiter) take(key schemas.KeyID, limit int, now time.Time) (left int, reset time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, known := l.keys[key]
	if !now.Before(u.until) {
		u = usage{until: now.Add(window)}
		if !known {
			l.forget(now)
		}
	}
	if ok = u.used < limit; ok {
		u.used++
	}
	l.keys[key] = u
	return max(limit-u.used, 0), u.until.Sub(now), ok
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

// limit applies the key's own rate limit and says so in the answer's headers.
func (s *server) limit(w http.ResponseWriter, p auth.Principal) error {
	if p.RateLimitPerMinute <= 0 {
		return nil
	}
	if reset, ok := s.limited(w, p.KeyID, p.RateLimitPerMinute); !ok {
		return schemas.Errorf(schemas.TooMany, "rate_limited", "this key may make %d requests a minute; come back in %s", p.RateLimitPerMinute, reset)
	}
	return nil
}

// hostSends is how many events a host may send, and how many tickets it may ask
// for, in a minute: each is written for every replica.
const hostSends = 60

// limitHost applies it.
func (s *server) limitHost(w http.ResponseWriter, h schemas.HostID) error {
	if reset, ok := s.limited(w, schemas.KeyID("host "+string(h)), hostSends); !ok { // no key's id has a space
		return schemas.Errorf(schemas.TooMany, "rate_limited", "a host may do this %d times a minute; come back in %s", hostSends, reset)
	}
	return nil
}

// limited counts a request of a key and tells of its limit in the answer's headers.
func (s *server) limited(w http.ResponseWriter, key schemas.KeyID, limit int) (reset time.Duration, ok bool) {
	left, reset, ok := s.limits.take(key, limit, time.Now())
	seconds := strconv.Itoa(int(math.Ceil(reset.Seconds())))
	h := w.Header()
	h.Set("RateLimit-Limit", strconv.Itoa(limit))
	h.Set("RateLimit-Remaining", strconv.Itoa(left))
	h.Set("RateLimit-Reset", seconds)
	if !ok {
		h.Set("Retry-After", seconds)
	}
	return reset.Round(time.Second), ok
}
