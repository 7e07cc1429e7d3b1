package api

import (
	_ "embed"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/krib-ai/krib/schemas"
)

//go:embed openapi.json
var openAPI []byte

// serveOpenAPI answers the description of these routes; a test holds it to them.
func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	document(w, "application/json", openAPI)
}

// serveAsyncAPI answers the description of the topics, which holds the schemas that
// serveSchema answers, too.
func (s *server) serveAsyncAPI(w http.ResponseWriter, r *http.Request) {
	doc, err := s.asyncAPI()
	if err != nil { // a topic that nothing describes
		s.fail(w, r, err)
		return
	}
	document(w, "application/json", doc)
}

// serveSchema answers the JSON Schema of a topic's values.
func (s *server) serveSchema(w http.ResponseWriter, r *http.Request) {
	b, err := schemas.Schema(chi.URLParam(r, "schema"))
	if err != nil {
		s.noRoute(w, r)
		return
	}
	document(w, "application/schema+json", b)
}

func document(w http.ResponseWriter, mediaType string, b []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(b) // a client that left hears nothing
}

//go:embed llms.txt
var llms []byte

// serveLLMs tells a model that comes by what there is, as https://llmstxt.org
// proposes.
func serveLLMs(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(llms) // a client that left hears nothing
}
