package api

import "net/http"

// A recorder knows what was answered. What else the writer below can do is
// reached through Unwrap; flushing is here, because it begins the answer. Chi's
// recorder is not used: its Flush has no error, and a stream to a client that
// takes nothing would go on as if all had arrived.
type recorder struct {
	http.ResponseWriter
	status, bytes int // status is 0 until the answer has begun
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= http.StatusOK || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.begun()
	n, err := w.ResponseWriter.Write(b)
	w.bytes += n
	return n, err
}

// FlushError is what http.ResponseController asks for before Flush.
func (w *recorder) FlushError() error {
	w.begun()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// begun says that the answer has: with what is written or flushed before a
// status, 200 goes out.
func (w *recorder) begun() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}
