//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A frame is one SSE event, read by the rules of the HTML standard.
type frame struct {
	ID, Event, Data string
}

func (f frame) json(t *testing.T) object {
	t.Helper()
	var o object
	if err := json.Unmarshal([]byte(f.Data), &o); err != nil {
		t.Fatalf("frame data %q: %v", f.Data, err)
	}
	return o
}

// stream reads frames until the connection ends or each says false. It returns
// the last event id.
func (k *krib) stream(ctx context.Context, last string, each func(frame) bool) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.APIURL+"/api/v1/hosts/"+k.HostID+"/events", nil)
	if err != nil {
		return last, err
	}
	req.Header.Set("Authorization", "Bearer "+k.HostToken)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := streams.Do(req)
	if err != nil {
		return last, err
	}
	defer func() { _ = res.Body.Close() }()
	var f frame
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if f.ID != "" {
				last = f.ID
			}
			if f.Data != "" && !each(f) {
				return last, nil
			}
			f = frame{}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			f.ID = value
		case "event":
			f.Event = value
		case "data":
			f.Data += value
		}
	}
	return last, lines.Err()
}

// next reads the stream from a cursor until a frame of the wanted event.
func (k *krib) next(t *testing.T, last, event string) frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got frame
	_, err := k.stream(ctx, last, func(f frame) bool {
		got = f
		return f.Event != event
	})
	if err != nil || got.Event != event {
		t.Fatalf("waiting for %s: %v, last frame %+v", event, err, got)
	}
	return got
}
