// Package docs is the documents, and tests that they are true: their snippets are
// run, and their examples compared with what the code makes. No program has it.
package docs
