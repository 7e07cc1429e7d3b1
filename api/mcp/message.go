package mcp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"

	"github.com/krib-ai/krib/schemas"
)

// A message is one of JSON-RPC as far as the library cannot be left with it: it keeps
// ids in float64, which changes integers beyond 2^53, and refuses methods that it does
// not know by plain text.
type message struct {
	id     json.RawMessage // as it came; nil for a notification
	method string
}

// standIn is the id that the library sees. It is alone: each message has a session of
// its own.
var standIn = json.RawMessage("1")

// readMessage takes the id out of a request's message.
func readMessage(r *http.Request) (m message, err error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return m, fmt.Errorf("reading a message: %w", err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return m, fmt.Errorf("reading a message: %w", err)
	}
	_ = json.Unmarshal(members["method"], &m.method) // the library refuses others than texts
	if id := members["id"]; len(id) > 0 && (id[0] == '"' || id[0] == '-' || id[0] >= '0' && id[0] <= '9') {
		m.id, members["id"] = id, standIn
		if body, err = json.Marshal(members); err != nil {
			return m, fmt.Errorf("writing a message: %w", err)
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return m, nil
}

// unhandled is how the library begins its refusal of a method.
const unhandled = "JSON RPC not handled"

// finish makes the library's answer the message's own.
func (m *message) finish(a *Answer) {
	text, plain := a.Refusal()
	switch {
	case plain && strings.HasPrefix(text, unhandled) && m.id != nil:
		a.header.Set("Content-Type", "application/json")
		a.status = http.StatusOK
		a.replace(encode(map[string]any{
			"jsonrpc": "2.0", "id": m.id, "error": jsonrpc.Error{Code: jsonrpc.CodeMethodNotFound, Message: fmt.Sprintf("there is no method %q here", m.method)},
		}))
	case plain && strings.HasPrefix(text, unhandled): // a notification of what does not matter here
		a.header.Del("Content-Type")
		a.status = http.StatusAccepted
		a.replace(nil)
	case m.id != nil && !plain:
		m.giveBack(a)
	}
}

// giveBack lays the message's id over the one that the library has seen.
func (m *message) giveBack(a *Answer) {
	var members map[string]json.RawMessage
	if json.Unmarshal(a.body.Bytes(), &members) != nil || !bytes.Equal(members["id"], standIn) {
		return
	}
	members["id"] = m.id
	a.replace(encode(members))
}

// encode writes JSON that is valid already, whose bytes stay as they are.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // always does
	return schemas.EscapeBreaks(bytes.TrimSpace(b.Bytes()))
}
