package main

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// announceSlack is how much longer an access token lives than announced: the
// library rounds expires_in down to whole seconds, after some work.
const announceSlack = time.Second / 2

// errInactive is what the endpoints for access tokens answer from.
var errInactive = errors.New("access token is unknown, revoked or expired")

// store is the library's example storage with another token half. The
// example's rotation stays: each refresh token works once, the next one and a
// new access token take its place, and the old access token ends with it. What
// differs: lifetimes are not fixed at five minutes and five hours, spent
// refresh tokens are remembered so that their reuse can be counted, and of two
// concurrent refreshes the second gets invalid_grant instead of server_error.
//
// Embedding the interface hides the example's optional grants (device, client
// credentials, token exchange), so the library does not offer them.
type store struct {
	op.Storage // clients, users, authorization requests, codes, signing key
	lifetime   time.Duration

	mu      sync.Mutex
	access  map[string]*storage.Token        // live, by ID
	refresh map[string]*storage.RefreshToken // live, by token
	spent   map[string]bool                  // refresh tokens used or revoked
	reused  int                              // requests with a spent refresh token
}

func newStore(example op.Storage, lifetime time.Duration) *store {
	return &store{
		Storage:  example,
		lifetime: lifetime,
		access:   map[string]*storage.Token{},
		refresh:  map[string]*storage.RefreshToken{},
		spent:    map[string]bool{},
	}
}

// GetClientByClientID gives the example's client our scopes and sign-in page.
func (s *store) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	registered, err := s.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return client{registered}, nil
}

// CreateAccessToken serves a login that did not ask for offline access.
func (s *store) CreateAccessToken(_ context.Context, req op.TokenRequest) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, err := s.issue(req)
	if err != nil {
		return "", time.Time{}, err
	}
	return token.ID, token.Expiration, nil
}

// CreateAccessAndRefreshTokens serves a login, when current is empty, and a
// refresh, which spends current. Checking and spending are one step under the
// lock: TokenRequestByRefreshToken only looked.
func (s *store) CreateAccessAndRefreshTokens(_ context.Context, req op.TokenRequest, current string) (string, string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if current != "" {
		old, err := s.find(current)
		if err != nil {
			return "", "", time.Time{}, err
		}
		s.spend(old)
	}
	token, err := s.issue(req)
	if err != nil {
		return "", "", time.Time{}, err
	}
	next := &storage.RefreshToken{
		ID:            token.RefreshTokenID,
		Token:         token.RefreshTokenID,
		UserID:        token.Subject,
		ApplicationID: token.ApplicationID,
		Audience:      token.Audience,
		Scopes:        token.Scopes,
		AccessToken:   token.ID,
	}
	if from, ok := req.(op.IDTokenRequest); ok {
		next.AuthTime, next.AMR = from.GetAuthTime(), from.GetAMR()
	}
	s.refresh[next.Token] = next
	return token.ID, next.Token, token.Expiration, nil
}

// TokenRequestByRefreshToken returns a copy, so that the library can set the
// requested scopes on it.
func (s *store) TokenRequestByRefreshToken(_ context.Context, token string) (op.RefreshTokenRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.find(token)
	if err != nil {
		return nil, err
	}
	request := *found
	return storage.RefreshTokenRequestFromBusiness(&request), nil
}

// find returns a live refresh token, and counts the use of a spent one.
func (s *store) find(token string) (*storage.RefreshToken, error) {
	if found, ok := s.refresh[token]; ok {
		return found, nil
	}
	if s.spent[token] {
		s.reused++
	}
	return nil, oidc.ErrInvalidGrant().WithDescription("invalid refresh_token")
}

// spend ends a refresh token and the access token issued with it.
func (s *store) spend(token *storage.RefreshToken) {
	delete(s.refresh, token.Token)
	delete(s.access, token.AccessToken)
	s.spent[token.Token] = true
}

// issue makes an access token, and names the refresh token to go with it.
func (s *store) issue(req op.TokenRequest) (*storage.Token, error) {
	from, ok := req.(op.IDTokenRequest)
	if !ok { // the JWT profile grant, which cannot be turned off
		return nil, oidc.ErrUnsupportedGrantType()
	}
	token := &storage.Token{
		ID:             rand.Text(),
		ApplicationID:  from.GetClientID(),
		Subject:        from.GetSubject(),
		RefreshTokenID: rand.Text(),
		Audience:       from.GetAudience(),
		Expiration:     time.Now().Add(s.lifetime + announceSlack),
		Scopes:         from.GetScopes(),
	}
	s.access[token.ID] = token
	return token, nil
}

// reuses is how many requests brought a spent refresh token.
func (s *store) reuses() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reused
}

// TerminateSession ends all tokens of a user at a client.
func (s *store) TerminateSession(_ context.Context, userID, clientID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token := range maps.Values(s.refresh) {
		if token.UserID == userID && token.ApplicationID == clientID {
			s.spend(token)
		}
	}
	maps.DeleteFunc(s.access, func(_ string, token *storage.Token) bool {
		return token.Subject == userID && token.ApplicationID == clientID
	})
	return nil
}
