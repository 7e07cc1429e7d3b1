// Package embedded brings up the two servers that the pipeline needs, so that
// `krib dev` and the tests run on a machine where nobody installed anything: a
// broker that speaks Kafka's protocol in this process, and a real PostgreSQL in
// a process of its own. It is not for production. The broker is one goroutine
// and one replica, and neither server is reachable from another machine unless
// asked for.
//
// What it guarantees: a folder has one owner at a time, data survives a kill of
// this process, and what a start cannot do it says in one line that names the
// folder or the address.
package embedded
