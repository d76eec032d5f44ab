package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// config is what the flags set, and the address found when listening.
type config struct {
	baseURL  string        // scheme, host and port; the issuer
	lifetime time.Duration // of an access token
}

// server joins the library's provider to HTTP.
type server struct {
	cfg                config
	introspectorSecret string
	user               *storage.User // the only one who logs in
	users              *storage.Storage
	provider           *op.Provider
	store              *store
	counts             counter
}

// newServer validates cfg and builds the provider. It starts nothing.
func newServer(cfg config) (*server, error) {
	if cfg.lifetime < time.Second || cfg.lifetime%time.Second != 0 {
		return nil, fmt.Errorf("lifetime %s: not a positive number of whole seconds", cfg.lifetime)
	}
	s := &server{cfg: cfg, introspectorSecret: rand.Text()}
	users := storage.NewUserStore(cfg.baseURL)
	s.user = users.GetUserByID("id1") // the library's sample user
	s.users = storage.NewStorageWithClients(users, clients(s.introspectorSecret))
	s.store = newStore(s.users, cfg.lifetime)
	settings := &op.Config{
		CodeMethodS256:        true,
		GrantTypeRefreshToken: true,
	}
	if _, err := rand.Read(settings.CryptoKey[:]); err != nil { // it encrypts access tokens and codes
		return nil, fmt.Errorf("make key: %w", err)
	}
	provider, err := op.NewProvider(settings, s.store, op.StaticIssuer(cfg.baseURL), op.WithAllowInsecure())
	if err != nil {
		return nil, fmt.Errorf("make provider: %w", err)
	}
	s.provider = provider
	return s, nil
}

// endpoints is the line printed when the server is ready. The introspection
// URL carries the Basic credentials RFC 7662 asks for; Go's client sends them.
type endpoints struct {
	TokenURL      string `json:"token_url"`
	IntrospectURL string `json:"introspect_url"`
	AdminURL      string `json:"admin_url"`
	AuthorizeURL  string `json:"authorize_url"`
	RevokeURL     string `json:"revoke_url"`
	UserinfoURL   string `json:"userinfo_url"`
}

func (s *server) endpoints() endpoints {
	base := s.cfg.baseURL
	introspect, err := url.Parse(s.provider.IntrospectionEndpoint().Absolute(base))
	if err != nil {
		panic(err) // from our own listener
	}
	introspect.User = url.UserPassword(introspectorID, s.introspectorSecret)
	return endpoints{
		TokenURL:      s.provider.TokenEndpoint().Absolute(base),
		IntrospectURL: introspect.String(),
		AdminURL:      base + "/admin",
		AuthorizeURL:  s.provider.AuthorizationEndpoint().Absolute(base),
		RevokeURL:     s.provider.RevocationEndpoint().Absolute(base),
		UserinfoURL:   s.provider.UserinfoEndpoint().Absolute(base),
	}
}

// handler puts the admin endpoints, the sign-in page and the JSON adapter in
// front of the library's own routes.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.provider)
	mux.HandleFunc(s.provider.TokenEndpoint().Relative(), acceptJSON(s.counts.count(s.provider)))
	mux.HandleFunc("GET "+signInPath, s.signIn)
	mux.HandleFunc("POST /admin/login", s.adminLogin)
	mux.HandleFunc("GET /admin/active", s.adminActive)
	mux.HandleFunc("GET /admin/counts", s.adminCounts)
	return mux
}
