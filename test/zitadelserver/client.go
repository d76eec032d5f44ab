package main

import (
	"net/url"
	"slices"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

const (
	// clientID is the public client of Claude Code.
	clientID = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
	// redirectURI matches any loopback host and port: the library follows RFC
	// 8252 section 7.3.
	redirectURI = "http://127.0.0.1/callback"
	// introspectorID is the client that may ask the introspection endpoint.
	introspectorID = "introspector"
)

// claudeScopes are what Claude Code asks for.
var claudeScopes = []string{"user:profile", "user:inference", "user:sessions:claude_code"}

// loginScopes are what a login asks for here: Claude Code does not ask for
// offline access, but without it this library gives no refresh token.
var loginScopes = append(slices.Clone(claudeScopes), oidc.ScopeOfflineAccess)

// clients are the registered ones. A native client is public and needs PKCE.
func clients(introspectorSecret string) map[string]*storage.Client {
	return map[string]*storage.Client{
		clientID:       storage.NativeClient(clientID, redirectURI),
		introspectorID: storage.WebClient(introspectorID, introspectorSecret),
	}
}

// client is a registered client with our scopes and our sign-in page.
type client struct {
	op.Client
}

// LoginURL is where the browser goes with an authorization request.
func (client) LoginURL(id string) string {
	return signInPath + "?" + url.Values{"id": {id}}.Encode()
}

// IsScopeAllowed adds to the scopes that OpenID Connect defines.
func (client) IsScopeAllowed(scope string) bool {
	return slices.Contains(claudeScopes, scope)
}
