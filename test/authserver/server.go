package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
)

const (
	// clientID is the public client of Claude Code.
	clientID = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
	// redirectURI matches any port: fosite follows RFC 8252 section 7.3 for
	// loopback IP literals (and for nothing else, so not for "localhost").
	redirectURI = "http://127.0.0.1/callback"
	// introspectorID is the client that may ask the introspection endpoint.
	introspectorID = "introspector"
	// subject is the only user; consent is automatic.
	subject = "user@example.com"
)

// loginScopes are what a login asks for. Claude Code asks for no offline access
// and gets a refresh token all the same, so this server requires none either;
// a client that does ask for offline_access is granted it.
var loginScopes = []string{"user:profile", "user:inference", "user:sessions:claude_code"}

// config is what the flags set, and the address found when listening.
type config struct {
	baseURL     string        // scheme, host and port
	lifetime    time.Duration // of an access token
	grace       time.Duration // 0: a refresh token works once
	redirectURI string        // one more allowed redirect URI; may be empty
}

// store is what fosite needs of a store, and what /admin/revoke needs.
type store interface {
	fosite.Storage
	oauth2.CoreStorage
	oauth2.TokenRevocationStorage
}

// server joins fosite to HTTP.
type server struct {
	cfg                config
	introspectorSecret string
	strategy           oauth2.CoreStrategy
	provider           fosite.OAuth2Provider
	store              store
	counts             counts

	// mu makes each request one transaction. fosite reads a refresh token in one
	// step and rotates it in a later one, and relies on its store for isolation;
	// MemoryStore has none (nor is its RevokeRefreshToken safe beside its reads),
	// and without mu two concurrent refreshes would leave two live families.
	mu sync.Mutex
}

// newServer validates cfg and composes the provider. It starts nothing.
func newServer(cfg config) (*server, error) {
	if cfg.lifetime < time.Second || cfg.lifetime%time.Second != 0 {
		return nil, fmt.Errorf("lifetime %s: not a positive number of whole seconds", cfg.lifetime)
	}
	if cfg.grace < 0 {
		return nil, fmt.Errorf("grace %s: negative", cfg.grace)
	}
	settings := &fosite.Config{
		AccessTokenLifespan: cfg.lifetime,
		GlobalSecret:        []byte(rand.Text() + rand.Text()),
		HashCost:            4, // bcrypt's minimum: the secret lives as long as the process
		EnforcePKCE:         true,
		ScopeStrategy:       fosite.ExactScopeStrategy,
		RefreshTokenScopes:  []string{}, // a refresh token with every grant
	}
	s := &server{
		cfg:                cfg,
		introspectorSecret: rand.Text(),
		strategy:           compose.NewOAuth2HMACStrategy(settings),
	}
	memory := storage.NewMemoryStore()
	if err := s.addClients(memory, settings); err != nil {
		return nil, err
	}
	s.store = memory
	if cfg.grace > 0 {
		s.store = newGraceStore(memory, cfg.grace)
	}
	s.provider = compose.Compose(settings, s.store, s.strategy,
		compose.OAuth2AuthorizeExplicitFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2PKCEFactory,
		compose.OAuth2TokenIntrospectionFactory,
		compose.OAuth2TokenRevocationFactory,
	)
	return s, nil
}

// addClients registers the public client and the one that may introspect.
func (s *server) addClients(memory *storage.MemoryStore, settings *fosite.Config) error {
	hasher := &fosite.BCrypt{Config: settings}
	hash, err := hasher.Hash(context.Background(), []byte(s.introspectorSecret))
	if err != nil {
		return fmt.Errorf("hash introspector secret: %w", err)
	}
	redirects := []string{redirectURI}
	if s.cfg.redirectURI != "" {
		redirects = append(redirects, s.cfg.redirectURI)
	}
	memory.Clients[introspectorID] = &fosite.DefaultClient{ID: introspectorID, Secret: hash}
	memory.Clients[clientID] = &fosite.DefaultClient{
		ID:            clientID,
		Public:        true,
		RedirectURIs:  redirects,
		ResponseTypes: []string{"code"},
		GrantTypes:    []string{"authorization_code", "refresh_token"},
		Scopes:        append([]string{"offline_access"}, loginScopes...),
	}
	return nil
}

// endpoints is the line printed when the server is ready. The introspection
// URL carries the Basic credentials RFC 7662 asks for; Go's client sends them.
type endpoints struct {
	TokenURL      string `json:"token_url"`
	IntrospectURL string `json:"introspect_url"`
	AdminURL      string `json:"admin_url"`
	AuthorizeURL  string `json:"authorize_url"`
	RevokeURL     string `json:"revoke_url"`
}

func (s *server) endpoints() endpoints {
	base, err := url.Parse(s.cfg.baseURL)
	if err != nil {
		panic(err) // from our own listener
	}
	introspect := base.JoinPath("/oauth/introspect")
	introspect.User = url.UserPassword(introspectorID, s.introspectorSecret)
	return endpoints{
		TokenURL:      s.cfg.baseURL + "/oauth/token",
		IntrospectURL: introspect.String(),
		AdminURL:      s.cfg.baseURL + "/admin",
		AuthorizeURL:  s.cfg.baseURL + "/oauth/authorize",
		RevokeURL:     s.cfg.baseURL + "/oauth/revoke",
	}
}

// handler routes the OAuth endpoints and the admin ones.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /oauth/authorize", s.serialized(s.authorize))
	mux.HandleFunc("POST /oauth/token", acceptJSON(s.serialized(s.token)))
	mux.HandleFunc("POST /oauth/introspect", s.serialized(s.introspect))
	mux.HandleFunc("POST /oauth/revoke", s.serialized(s.revoke))
	mux.HandleFunc("POST /admin/login", s.adminLogin) // calls back over HTTP, so it must not hold mu
	mux.HandleFunc("GET /admin/active", s.serialized(s.adminActive))
	mux.HandleFunc("GET /admin/counts", s.serialized(s.adminCounts))
	mux.HandleFunc("POST /admin/revoke", s.serialized(s.adminRevoke))
	return mux
}

// serialized reads the body first, so that a slow client does not hold mu.
func (s *server) serialized(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			writeInvalidRequest(w, "The request body is not a form.")
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		next(w, r)
	}
}
