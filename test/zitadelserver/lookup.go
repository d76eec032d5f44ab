package main

import (
	"context"
	"time"

	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// live returns an access token that is neither ended nor expired.
func (s *store) live(tokenID string) (*storage.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := s.access[tokenID]
	if !ok || time.Now().After(token.Expiration) {
		return nil, errInactive
	}
	return token, nil
}

// SetUserinfoFromToken serves the userinfo endpoint.
func (s *store) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	token, err := s.live(tokenID)
	if err != nil {
		return err
	}
	info.Subject = token.Subject
	return nil
}

// SetIntrospectionFromToken serves the introspection endpoint. Only the
// introspector learns anything, and about any token: the example takes an empty
// secret from a public client.
func (s *store) SetIntrospectionFromToken(_ context.Context, out *oidc.IntrospectionResponse, tokenID, _, clientID string) error {
	if clientID != introspectorID {
		return errInactive
	}
	token, err := s.live(tokenID)
	if err != nil {
		return err
	}
	out.Subject, out.ClientID, out.Scope = token.Subject, token.ApplicationID, token.Scopes
	out.Expiration = oidc.FromTime(token.Expiration)
	return nil
}

// GetRefreshTokenInfo tells the revocation endpoint a refresh token from an
// access token. The ID of a refresh token is the token.
func (s *store) GetRefreshTokenInfo(_ context.Context, _, token string) (userID, tokenID string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.refresh[token]
	if !ok {
		return "", "", op.ErrInvalidRefreshToken
	}
	return found.UserID, found.ID, nil
}

// RevokeToken ends an access token by its ID, or a refresh token together with
// its access token. An unknown token is no error (RFC 7009 section 2.2).
func (s *store) RevokeToken(_ context.Context, id, _, clientID string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token, ok := s.access[id]; ok {
		if token.ApplicationID != clientID {
			return otherClient()
		}
		delete(s.access, id)
		return nil
	}
	if token, ok := s.refresh[id]; ok {
		if token.ApplicationID != clientID {
			return otherClient()
		}
		s.spend(token)
	}
	return nil
}

func otherClient() *oidc.Error {
	return oidc.ErrInvalidClient().WithDescription("token was not issued for this client")
}
