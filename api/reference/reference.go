// Package reference holds the pages under /docs/: Swagger UI on the OpenAPI
// document, and a page of our own on the AsyncAPI document. Everything they load
// is here or is one of the API's documents; swagger-ui/README.md says where the
// viewer comes from.
package reference

import "embed"

// Files are the pages' files, index.html among them.
//
//go:embed index.html api.js topics.html topics.js style.css swagger-ui/swagger-ui.css swagger-ui/swagger-ui-bundle.js
//go:embed swagger-ui/LICENSE swagger-ui/NOTICE swagger-ui/swagger-ui-bundle.js.LICENSE.txt
var Files embed.FS
