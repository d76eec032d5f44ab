package claudeapi

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxTokenBody bounds what is kept of a token request, in bytes.
const maxTokenBody = 1 << 20

// Request is one request that reached the double. It is safe to print.
type Request struct {
	// Time is when the request's header had arrived.
	Time time.Time
	// Client is the label of the listener.
	Client string
	// Host, Method and Path are the request line's, without port and query.
	Host, Method, Path string
	// Bearer is the token of the Authorization header.
	Bearer Secret
	// APIKey is the x-api-key header; a client that follows the credential file
	// sends none.
	APIKey Secret
	// Body is kept for the host's /v1/oauth/ endpoints only.
	Body Secret
	// Status is the HTTP status of the answer; 0 while the request is served.
	Status int
	// Violation says which rule of a well-behaved client the request broke.
	Violation string
}

// Requests returns a copy of everything recorded so far, in order of arrival.
func (d *Double) Requests() []Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

// TokenRequests returns the requests under /v1/oauth/, revocations included.
func (d *Double) TokenRequests() []Request {
	return d.filter(func(r Request) bool { return isOAuth(r.Path) })
}

// Violations returns the requests which a well-behaved client must not make.
func (d *Double) Violations() []Request {
	return d.filter(func(r Request) bool { return r.Violation != "" })
}

func (d *Double) filter(keep func(Request) bool) []Request {
	all := d.Requests()
	return slices.DeleteFunc(all, func(r Request) bool { return !keep(r) })
}

func isOAuth(path string) bool { return strings.HasPrefix(path, "/v1/oauth/") }

// record wraps the routes: it notes the request before it is served, so that a
// caller who has the answer also has the record, and the status afterwards.
func (d *Double) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := d.describe(r)
		if err != nil {
			writeError(w, http.StatusBadRequest, "invalid_request_error", "unreadable body")
			return
		}
		d.mu.Lock()
		index := len(d.requests)
		d.requests = append(d.requests, req)
		d.mu.Unlock()
		d.log.Debug("Request", "client", req.Client, "method", req.Method,
			"host", req.Host, "path", req.Path, "bearer", req.Bearer.String())
		sw := &statusWriter{ResponseWriter: w, note: func(code int) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.requests[index].Status = code
		}}
		next.ServeHTTP(sw, r)
	})
}

// describe reads the body of OAuth requests and puts it back for the handler.
func (d *Double) describe(r *http.Request) (Request, error) {
	host, _, _ := strings.Cut(r.Host, ":")
	req := Request{
		Time:   time.Now(),
		Client: labelOf(r.Context()),
		Host:   host,
		Method: r.Method,
		Path:   r.URL.Path,
		Bearer: Secret{bearer(r)},
		APIKey: Secret{r.Header.Get("X-Api-Key")},
	}
	if !isOAuth(req.Path) {
		return req, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxTokenBody))
	if err != nil {
		return req, err
	}
	req.Body = Secret{string(body)}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if d.token == nil || req.Path != tokenPath {
		req.Violation = "client called " + req.Path
	}
	return req, nil
}

func bearer(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return token
}

// statusWriter reports the first status before it goes on the wire.
type statusWriter struct {
	http.ResponseWriter
	note func(int)
	done bool
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(code int) {
	if !w.done {
		w.done = true
		w.note(code)
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	if !w.done {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController flush.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
