package deliver

import (
	"context"
	"errors"
	"io"
	"time"
)

const (
	// readBytes is how much of a response's body is read, after decompression: enough
	// for nearly every one to end, which keeps its connection for the next request.
	readBytes = 64 << 10
	// keepBytes is how much of it is kept.
	keepBytes = 4 << 10
	// bodyTimeout is how long a body is read once the response's headers are there.
	// The status line has decided by then; a body that does not end holds one of the
	// endpoint's slots, and costs its connection.
	bodyTimeout = 2 * time.Second
)

// The two ways in which a body can fail. Neither changes what its status line says.
var (
	errTornBody    = errors.New("the response's body broke off")
	errEndlessBody = errors.New("the response's body did not end in time")
)

// ReadBody reads a response's body within the bounds in bytes and time that apply to
// all receivers. cancel ends the request that the body belongs to. What has come is
// returned with the error, which says nothing about the status.
//
// After a 101 the transport has let go of the connection, and the end of the request's
// context interrupts nothing: only closing the body ends a read.
func ReadBody(body io.ReadCloser, cancel context.CancelFunc) ([]byte, error) {
	late := time.AfterFunc(bodyTimeout, func() {
		cancel()
		_ = body.Close() // the read that it ends reports it
	})
	b, err := io.ReadAll(io.LimitReader(body, readBytes))
	switch inTime := late.Stop(); {
	case err == nil:
		return b, nil
	case !inTime, errors.Is(err, context.DeadlineExceeded):
		return b, errEndlessBody
	}
	return b, errTornBody
}
