package push

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Whoever handles the panics of requests gets it, and is told where it was.
func TestAPanicBesideTheRequestIsTheRequests(t *testing.T) {
	for _, p := range []any{"lost", http.ErrAbortHandler} {
		func() {
			defer func() {
				got := recover()
				err, _ := got.(error)
				abort := errors.Is(err, http.ErrAbortHandler)
				if text := fmt.Sprint(got); abort != (p == any(http.ErrAbortHandler)) || !abort && (!strings.HasPrefix(text, "lost\n") || !strings.Contains(text, "aside_test.go")) {
					t.Errorf("got %v of %v", got, p)
				}
			}()
			aside(func() { panic(p) })
		}()
	}
	ran := false
	if aside(func() { ran = true }); !ran {
		t.Error("it did not wait")
	}
}
