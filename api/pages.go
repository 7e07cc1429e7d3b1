package api

import (
	"io/fs"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"
)

// The pages' files are served without credentials: they hold no data, and ask the
// API with what the reader gives them. The policies run no script but their own
// and let them ask nobody else.
const (
	pagePath   = "/dashboard/"
	pagePolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	docsPath   = "/docs/"
	// The viewer's sheet has pictures in it, and its script makes styles.
	docsPolicy = pagePolicy + "; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
)

func (s *server) pages(r chi.Router) {
	s.folder(r, pagePath, s.o.Pages, pagePolicy)
	s.folder(r, docsPath, s.o.Docs, docsPolicy)
}

// folder serves the files that were handed in, if any, under a policy.
func (s *server) folder(r chi.Router, path string, files fs.FS, policy string) {
	if files == nil {
		return
	}
	serve := http.StripPrefix(path, http.FileServerFS(files))
	r.Get(strings.TrimSuffix(path, "/"), http.RedirectHandler(path, http.StatusPermanentRedirect).ServeHTTP)
	r.Get(path+"*", func(w http.ResponseWriter, r *http.Request) {
		if name := strings.TrimPrefix(r.URL.Path, path); name != "" {
			if f, err := fs.Stat(files, name); err != nil || f.IsDir() { // the file server answers plain text, and lists folders
				s.noRoute(w, r)
				return
			}
		}
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		serve.ServeHTTP(w, r)
	})
}
