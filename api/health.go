package api

import (
	"net/http"
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

// health needs no credentials, and says no more than a stranger may know.
func (s *server) health(*http.Request, auth.Principal) (answer, error) {
	if err := s.o.Ready(); err != nil {
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
