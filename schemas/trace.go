package schemas

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
)

type traceKey struct{}

// WithTrace puts a W3C traceparent into a context, to be carried by every record
// and request that the work brings forth.
func WithTrace(ctx context.Context, parent string) context.Context {
	return context.WithValue(ctx, traceKey{}, parent)
}

// TraceOf is the context's traceparent, or a new one where there is none: each
// record on the topics has one.
func TraceOf(ctx context.Context) string {
	if p, ok := ctx.Value(traceKey{}).(string); ok {
		return p
	}
	return NewTraceParent()
}

// NewTraceParent begins a trace, in version 00 of W3C Trace Context. It is not
// flagged as sampled: nobody has decided so.
func NewTraceParent() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return "00-" + hex.EncodeToString(b[:16]) + "-" + hex.EncodeToString(b[16:]) + "-00"
}

// ValidTraceParent says whether a caller's header may be carried on: the exact
// form of version 00, with ids that are not all zero.
func ValidTraceParent(s string) bool {
	p := strings.Split(s, "-")
	if len(p) != 4 || p[0] != "00" || len(p[1]) != 32 || len(p[2]) != 16 || len(p[3]) != 2 {
		return false
	}
	for _, part := range p[1:] {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	return strings.Trim(p[1], "0") != "" && strings.Trim(p[2], "0") != ""
}
