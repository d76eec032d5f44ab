package refreshtest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
)

// Transport carries requests to the server without a network, so that a test can run in a testing/synctest bubble.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Server }

// RoundTrip implements http.RoundTripper. A faulty server drops a connection by panicking with http.ErrAbortHandler.
func (t transport) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	t.s.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err // the client gave up; the server may have acted all the same
	}
	return w.Result(), nil
}
