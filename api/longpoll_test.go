package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/krib-ai/krib/api"
	"github.com/krib-ai/krib/schemas"
)

// The server's deadline for reading stands until the whole request is there, for callers
// that are recognised too.
func TestALongPollIsNotHeldByABodyThatNeverComes(t *testing.T) {
	asked := make(chan struct{}, 10)
	w := newWorld(t, func(o *api.Options) {
		o.Pull = func(context.Context, schemas.Pull) (schemas.Pulled, error) {
			asked <- struct{}{}
			return schemas.Pulled{Events: []json.RawMessage{}, NextCursor: "AQAB"}, nil
		}
		o.Follow = func(http.ResponseWriter, *http.Request, schemas.Pull, func(context.Context) (schemas.Subscription, error)) error {
			asked <- struct{}{}
			return nil
		}
	})
	srv := httptest.NewUnstartedServer(w.srv.Config.Handler)
	srv.Config.ReadTimeout = 300 * time.Millisecond
	srv.Start()
	t.Cleanup(srv.Close)
	key := w.key("admin").auth
	for _, path := range []string{"/api/v1/external/events?wait=30", "/api/v1/external/events", "/api/v1/external/events/stream"} {
		for _, length := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // it fails the test, and decides nothing
			if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\nAuthorization: "+key+"\r\n"+length+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(conn)
			r, err := http.ReadResponse(in, nil)
			if err != nil || r.StatusCode != http.StatusUnprocessableEntity {
				t.Fatalf("%s, %s: answered %+v, %v", path, length, r, err)
			}
			body, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if _, over := in.ReadByte(); err != nil || over == nil || !strings.Contains(string(body), "incomplete_body") {
				t.Errorf("%s, %s: %s, %v, and the connection is open: %v", path, length, body, err, over)
			}
		}
	}
	if len(asked) != 0 {
		t.Error("a request was served before all of it was there")
	}
}
