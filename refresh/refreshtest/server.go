// Package refreshtest is an authorization server for tests, with rotation, reuse detection and faults to order. It
// speaks RFC 6749's refresh grant with JSON or form bodies, as Claude Code's token endpoint does.
package refreshtest

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Config says how strict the server is.
type Config struct {
	// Lifetime of access tokens; default 8 hours.
	Lifetime time.Duration
	// RevokeFamily kills every token of a login when a used refresh token comes again (OAuth 2.1 reuse detection);
	// otherwise reuse is only refused.
	RevokeFamily bool
	// KeepOld lets the previous access token live on after a rotation; otherwise it dies at once.
	KeepOld bool
	// Grace forgives a refresh token that comes again, however often, for so long after its first use.
	Grace time.Duration
}

// Login is a fresh grant.
type Login struct {
	AccessToken, RefreshToken string
	ExpiresAt                 time.Time
	Scopes                    []string
}

// Request is one request that reached the token endpoint.
type Request struct {
	At           time.Time
	RefreshToken string
	Status       int // 0: no answer was given
	UserAgent    string
}

type family struct {
	refresh string // the one that is good now
	before  string // the one before it
	rotated time.Time
	access  map[string]time.Time
	revoked bool
	scope   string
}

// Server is a running endpoint on loopback.
type Server struct {
	URL string // the token endpoint

	cfg  Config
	http *httptest.Server

	mu       sync.Mutex
	families []*family
	byToken  map[string]*family // every refresh token ever issued
	every    []string
	requests []Request
	fault    Fault
	grants   int
}

// Start runs a server until the test ends.
func Start(t testing.TB, cfg Config) *Server {
	t.Helper()
	s := New(cfg)
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL + "/v1/oauth/token"
	t.Cleanup(s.http.Close)
	return s
}

// New makes a server without a listener; use it as an http.Handler.
func New(cfg Config) *Server {
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 8 * time.Hour
	}
	return &Server{cfg: cfg, byToken: map[string]*family{}}
}

var scopes = []string{"user:profile", "user:inference", "user:sessions:claude_code"}

// NewLogin issues a grant as a browser login would.
func (s *Server) NewLogin() Login {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &family{access: map[string]time.Time{}, scope: "user:profile user:inference user:sessions:claude_code"}
	s.families = append(s.families, f)
	access, refresh, end := s.issue(f)
	return Login{AccessToken: access, RefreshToken: refresh, ExpiresAt: end, Scopes: scopes}
}

// issue gives the family new tokens; s.mu is held.
func (s *Server) issue(f *family) (access, refresh string, end time.Time) {
	if !s.cfg.KeepOld {
		clear(f.access)
	}
	access, refresh = "sk-ant-oat01-"+random(), "sk-ant-ort01-"+random()
	end = time.Now().Add(s.cfg.Lifetime)
	f.access[access] = end
	f.before, f.refresh, f.rotated = f.refresh, refresh, time.Now()
	s.byToken[refresh] = f
	s.every = append(s.every, access, refresh)
	return access, refresh, end
}

func random() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// Active reports whether the access token is accepted now.
func (s *Server) Active(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.families {
		if end, ok := f.access[access]; ok && !f.revoked {
			return time.Now().Before(end)
		}
	}
	return false
}

// RevokeAccess kills every access token now alive, but no login, as a provider's "log out other sessions" does.
func (s *Server) RevokeAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.families {
		clear(f.access)
	}
}

// Alive reports whether refresh still names a login that can go on.
func (s *Server) Alive(refresh string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.byToken[refresh]
	return ok && !f.revoked && f.refresh == refresh
}

// Lost counts the logins whose family has been revoked.
func (s *Server) Lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.families {
		if f.revoked {
			n++
		}
	}
	return n
}

// Grants counts successful refreshes.
func (s *Server) Grants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants
}

// Requests lists what reached the endpoint, in order.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// EveryToken lists every token ever issued, for residue scans.
func (s *Server) EveryToken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.every...)
}

var _ http.Handler = (*Server)(nil)

// Close ends the listener: connections are refused from then on.
func (s *Server) Close() { s.http.Close() }
