package api

import (
	"io/fs"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
)

// pagePath is where the pages' files are served, without credentials: they hold
// no data, and ask the API with the host's own token.
const pagePath = "/dashboard/"

// pages serves the files that were handed in, under a policy that runs no script
// but their own.
func (s *server) pages(r chi.Router) {
	if s.o.Pages == nil {
		return
	}
	files := http.StripPrefix(pagePath, http.FileServerFS(s.o.Pages))
	r.Get("/dashboard", http.RedirectHandler(pagePath, http.StatusPermanentRedirect).ServeHTTP)
	r.Get(pagePath+"*", func(w http.ResponseWriter, r *http.Request) {
		if name := strings.TrimPrefix(r.URL.Path, pagePath); name != "" {
			if f, err := fs.Stat(s.o.Pages, name); err != nil || f.IsDir() { // the file server answers plain text, and lists folders
				s.noRoute(w, r)
				return
			}
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}
