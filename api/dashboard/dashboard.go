// Package dashboard holds the files of the host's page: a list of notifications
// and the live stream, with no build step and nothing from elsewhere. The page
// holds no data of its own; it asks the API with the token that its user pastes.
// krib-events.js, which reads the stream for it, is for customers to copy.
package dashboard

import "embed"

// Files are the page's files, index.html among them.
//
//go:embed index.html app.js krib-events.js style.css
var Files embed.FS
