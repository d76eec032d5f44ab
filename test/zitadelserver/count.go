package main

import (
	"net/http"
	"sync"
)

// counts are the outcomes of refresh requests, as /admin/counts reports them.
type counts struct {
	OK     int `json:"refresh_ok"`
	Failed int `json:"refresh_failed"`
	// Reused counts the failures due to a token that was spent or revoked
	// before; it is part of Failed.
	Reused int `json:"reuse_detected"`
}

// counter watches the token endpoint from outside, by the status it answers.
type counter struct {
	mu         sync.Mutex
	ok, failed int
}

// count wraps the token endpoint. Reading the form here is harmless: the
// library finds it read.
func (c *counter) count(next http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			writeInvalidRequest(w, "The request body is not a form.")
			return
		}
		if r.Form.Get("grant_type") == "refresh_token" {
			w = &watchedWriter{ResponseWriter: w, counter: c}
		}
		next.ServeHTTP(w, r)
	}
}

func (c *counter) add(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if status == http.StatusOK {
		c.ok++
	} else {
		c.failed++
	}
}

func (c *counter) get() (ok, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ok, c.failed
}

// watchedWriter counts before the client can see the answer, so that a client
// which then asks for the counts finds its own request in them. The library
// sets the status of every token response itself, and once.
type watchedWriter struct {
	http.ResponseWriter
	counter *counter
}

// WriteHeader counts the outcome.
func (w *watchedWriter) WriteHeader(status int) {
	w.counter.add(status)
	w.ResponseWriter.WriteHeader(status)
}
