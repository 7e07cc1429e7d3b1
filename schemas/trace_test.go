package schemas_test

import (
	"testing"

	"github.com/krib-ai/krib/schemas"
)

func TestATraceIsCarriedOrBegun(t *testing.T) {
	t.Parallel()
	const given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if got := schemas.TraceOf(schemas.WithTrace(t.Context(), given)); got != given {
		t.Errorf("got %s", got)
	}
	a, b := schemas.TraceOf(t.Context()), schemas.TraceOf(t.Context())
	if a == b || !schemas.ValidTraceParent(a) {
		t.Errorf("begun %s and %s", a, b)
	}
	for _, bad := range []string{
		"", "00", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", "00-4bf92f3577b34da6a3ce929d0e0e473\n-00f067aa0ba902b7-01",
	} {
		if schemas.ValidTraceParent(bad) {
			t.Errorf("accepted %q", bad)
		}
	}
}
