// Package e2e runs the whole program: in this process on ports of the kernel's
// choice, and as the built binary where it has to be killed. Its tests have the
// build tag e2e, since they take minutes; `make e2e` runs them.
//
// They look at Krib from outside only: HTTP, the SSE stream, a plain Kafka
// client, SQL. What they know of its insides is dev.json.
package e2e
