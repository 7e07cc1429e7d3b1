package app

import (
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin is for operators, on a listener of its own that no customer reaches. /healthz
// reports that the process lives, whatever it depends on: a broker that is away must
// not get the process killed. /readyz reports whether it can do its work, as the status
// and, role by role, in the body.
//
// Profiles show what is in memory, so they are there only where they were asked for,
// and only for callers of this machine.
func admin(reg *prometheus.Registry, checks *readiness, profiles bool, names []string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "alive\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		p, err := checks.report()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, p.text(err))
	})
	if profiles {
		for path, h := range map[string]http.HandlerFunc{
			"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
		} {
			mux.HandleFunc("/debug/pprof/"+path, fromHere(h))
		}
	}
	return knownHost(mux, names...)
}

// fromHere admits callers from loopback addresses only.
func fromHere(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil || !from.Addr().Unmap().IsLoopback() {
			http.Error(w, "profiles are for callers of this machine", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// knownHost refuses requests that a browser sends for a page which had its own name
// resolve to this address (DNS rebinding): their Host is a name with a dot. Operators
// and probes use addresses, localhost, or the short names and cluster names of
// containers, none of which a stranger can own, or one of the given names.
func knownHost(next http.Handler, names ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !privateName(r.Host, names) {
			http.Error(w, "this listener is not for the Host of the request", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// privateName reports whether a Host is one of names or can be no public name.
func privateName(host string, names []string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || !strings.Contains(host, ".") || slices.Contains(names, host) {
		return true
	}
	for _, reserved := range []string{".localhost", ".local", ".internal", ".svc"} {
		if strings.HasSuffix(host, reserved) {
			return true
		}
	}
	return false
}
