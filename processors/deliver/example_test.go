package deliver_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/krib-ai/krib/processors/deliver"
	"github.com/krib-ai/krib/schemas"
)

// A receiver verifies the body's bytes as they came, works on each webhook-id once,
// and answers as soon as the event is safe.
func ExampleVerify_receiver() {
	secret, err := schemas.ParseSigningSecret(vectorSecret)
	if err != nil {
		panic(err)
	}
	seen := map[string]bool{} // a table with a unique key, in the transaction of the work
	receive := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
		if err := deliver.Verify(r.Header, body, secret, time.Now()); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if id := r.Header.Get("webhook-id"); !seen[id] {
			seen[id] = true
			fmt.Printf("%s\n", body) //nolint:forbidigo // examples print
		}
		w.WriteHeader(http.StatusNoContent)
	}

	// The same event twice, since the answer to the first attempt was lost, and then
	// somebody else's.
	now, event := time.Now(), `{"id":"evt_1","type":"booking.created","sequence":1}`
	for _, signature := range []string{
		deliver.Sign("evt_1", now, []byte(event), secret),
		deliver.Sign("evt_1", now, []byte(event), secret),
		deliver.Sign("evt_1", now, []byte(event), []byte("another secret of thirty-two bytes")),
	} {
		r := httptest.NewRequest(http.MethodPost, "/hooks/krib", strings.NewReader(event))
		r.Header.Set("webhook-id", "evt_1")
		r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
		r.Header.Set("webhook-signature", signature)
		w := httptest.NewRecorder()
		receive(w, r)
		fmt.Println(w.Code) //nolint:forbidigo // examples print
	}
	// Output:
	// {"id":"evt_1","type":"booking.created","sequence":1}
	// 204
	// 204
	// 401
}
