package api

import (
	"net/http"
	"sync"
	"time"

	"github.com/krib-ai/krib/api/auth"
	"github.com/krib-ai/krib/schemas"
)

type healthView struct {
	Status    string    `json:"status"`
	Service   string    `json:"service"`
	Version   string    `json:"version"`
	Timestamp time.Time `json:"timestamp"`
	Endpoints []string  `json:"endpoints"`
}

// verdictLife is how long a verdict on the process's health stands.
const verdictLife = time.Second

// A verdict keeps what it was told for a moment, and has one asked at a time:
// anybody may call the probes, and each look costs a round trip to Postgres.
type verdict struct {
	look func() error // bounds its own time

	mu    sync.Mutex
	err   error
	until time.Time
}

// ask waits for a look that goes on, and takes what came of it.
func (v *verdict) ask() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !time.Now().Before(v.until) {
		v.err = v.look()
		v.until = time.Now().Add(verdictLife)
	}
	return v.err
}

// health needs no credentials, and says no more than a stranger may know.
func (s *server) health(*http.Request, auth.Principal) (answer, error) {
	if err := s.ready.ask(); err != nil {
		return answer{}, schemas.Errorf(schemas.Unavailable, "not_ready", "the service is not ready")
	}
	v := healthView{
		Status: "healthy", Service: "Krib AI External API", Version: s.o.Version, Timestamp: schemas.Stamp(time.Now()),
	}
	for _, t := range s.routes() {
		v.Endpoints = append(v.Endpoints, t.method+" "+t.path)
	}
	return answer{data: v}, nil
}
