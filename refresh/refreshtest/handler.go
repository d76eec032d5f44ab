package refreshtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Fault spoils the answer to one request. The zero value spoils nothing.
type Fault struct {
	// Delay passes before anything else happens.
	Delay time.Duration
	// Drop closes the connection: "before" the server acts on the request, or "after" it has rotated the token.
	Drop string
	// Status, with Body and ContentType, is answered instead of acting on the request.
	Status      int
	Body        string
	ContentType string
	RetryAfter  string
	// Location is that of a redirect.
	Location string
	// Times is how many requests are spoiled; 0: every one.
	Times int
}

// SetFault spoils every request from now on; the zero Fault heals the server.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// ServeHTTP is the token endpoint.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault := s.nextFault()
	params, err := readParams(r)
	if r.Method != http.MethodPost || err != nil {
		s.answer(w, r, "", http.StatusBadRequest, map[string]any{"error": "invalid_request"})
		return
	}
	select {
	case <-time.After(fault.Delay):
	case <-r.Context().Done():
	}
	switch {
	case fault.Drop == "before":
		s.drop(w, r, params["refresh_token"])
	case fault.Status != 0:
		s.spoil(w, r, params["refresh_token"], fault)
	case fault.Drop == "after":
		s.refresh(params["refresh_token"])
		s.drop(w, r, params["refresh_token"])
	case params["grant_type"] != "refresh_token":
		s.answer(w, r, "", http.StatusBadRequest, map[string]any{"error": "unsupported_grant_type"})
	default:
		status, body := s.refresh(params["refresh_token"])
		s.answer(w, r, params["refresh_token"], status, body)
	}
}

func (s *Server) nextFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	fault := s.fault
	if s.fault.Times > 0 {
		if s.fault.Times--; s.fault.Times == 0 {
			s.fault = Fault{}
		}
	}
	return fault
}

func readParams(r *http.Request) (map[string]string, error) {
	params := map[string]string{}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var body map[string]any
		err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&body)
		for k, v := range body { // clients send numbers too
			params[k] = fmt.Sprint(v)
		}
		return params, err
	}
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	for k := range r.PostForm {
		params[k] = r.PostForm.Get(k)
	}
	return params, nil
}

// refresh rotates a token, or refuses it and, when the server is strict, revokes the family of one used before.
func (s *Server) refresh(token string) (int, map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.byToken[token]
	good := ok && (f.refresh == token || f.before == token && time.Since(f.rotated) < s.cfg.Grace)
	if ok && !good && s.cfg.RevokeFamily {
		f.revoked = true
	}
	if !good || f.revoked {
		return http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": "refresh token is not valid"}
	}
	before, rotated := f.before, f.rotated
	access, refresh, _ := s.issue(f)
	if token == before { // used once more: its time runs from the first use, as in ory/fosite
		f.before, f.rotated = before, rotated
	}
	s.grants++
	return http.StatusOK, map[string]any{
		"token_type": "Bearer", "access_token": access, "refresh_token": refresh,
		"expires_in": int(s.cfg.Lifetime.Seconds()), "scope": f.scope,
	}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, token string, status int, body map[string]any) {
	s.record(r, token, status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (s *Server) spoil(w http.ResponseWriter, r *http.Request, token string, f Fault) {
	s.record(r, token, f.Status)
	if f.ContentType != "" {
		w.Header().Set("Content-Type", f.ContentType)
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.Location != "" {
		w.Header().Set("Location", f.Location)
	}
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, f.Body)
}

func (s *Server) drop(w http.ResponseWriter, r *http.Request, token string) {
	s.record(r, token, 0)
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // Transport takes it for a lost connection
	}
	_ = c.Close()
}

func (s *Server) record(r *http.Request, token string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{At: time.Now(), RefreshToken: token, Status: status, UserAgent: r.UserAgent()})
}
