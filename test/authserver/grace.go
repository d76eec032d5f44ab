package main

import (
	"context"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/storage"
)

// graceStore lets a used refresh token work again for a while, as Hydra's
// rotation_grace_period does; fosite leaves this to the store. Each repeat
// starts one more branch of the same family, and reuse after the grace period
// ends all of them. The lock of the server guards the maps.
type graceStore struct {
	*storage.MemoryStore
	grace   time.Duration
	usedAt  map[string]time.Time // refresh token signature: first use
	access  map[string]string    // refresh token signature: access token signature issued with it
	revoked map[string]bool      // request ID, which is the same for a whole family
}

func newGraceStore(memory *storage.MemoryStore, grace time.Duration) *graceStore {
	return &graceStore{
		MemoryStore: memory,
		grace:       grace,
		usedAt:      map[string]time.Time{},
		access:      map[string]string{},
		revoked:     map[string]bool{},
	}
}

// CreateRefreshTokenSession also notes which access token goes with it.
func (g *graceStore) CreateRefreshTokenSession(ctx context.Context, signature, accessSignature string, req fosite.Requester) error {
	g.access[signature] = accessSignature
	return g.MemoryStore.CreateRefreshTokenSession(ctx, signature, accessSignature, req)
}

// GetRefreshTokenSession answers ErrInactiveToken, which fosite takes for
// reuse, when the family is revoked or the grace period is over.
func (g *graceStore) GetRefreshTokenSession(ctx context.Context, signature string, session fosite.Session) (fosite.Requester, error) {
	req, err := g.MemoryStore.GetRefreshTokenSession(ctx, signature, session)
	if err != nil {
		return req, err
	}
	usedAt, used := g.usedAt[signature]
	if g.revoked[req.GetID()] || used && time.Since(usedAt) >= g.grace {
		return req, fosite.ErrInactiveToken
	}
	return req, nil
}

// RotateRefreshToken starts the grace period at the first use, and ends the
// access token issued with the refresh token.
func (g *graceStore) RotateRefreshToken(ctx context.Context, _ string, signature string) error {
	if _, used := g.usedAt[signature]; !used {
		g.usedAt[signature] = time.Now()
	}
	return g.DeleteAccessTokenSession(ctx, g.access[signature])
}

// RevokeRefreshToken ends every refresh token of a family.
func (g *graceStore) RevokeRefreshToken(_ context.Context, requestID string) error {
	g.revoked[requestID] = true
	return nil
}

// RevokeAccessToken ends every access token of a family.
func (g *graceStore) RevokeAccessToken(ctx context.Context, requestID string) error {
	for signature, req := range g.AccessTokens {
		if req.GetID() != requestID {
			continue
		}
		if err := g.DeleteAccessTokenSession(ctx, signature); err != nil {
			return err
		}
	}
	return nil
}
