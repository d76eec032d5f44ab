package credfile

import (
	"time"

	"github.com/claudefs/claudefs/vault"
)

// Credential makes a vault record of the login: the next generation after prev, or the first when prev is nil.
func (l *Login) Credential(a vault.AccountID, prev *vault.Credential, now time.Time) *vault.Credential {
	c := &vault.Credential{
		Account: a, AccessToken: l.AccessToken.Clone(), RefreshToken: l.RefreshToken.Clone(),
		ExpiresAt: l.ExpiresAt, IssuedAt: now, Scopes: l.Scopes,
		SubscriptionType: l.SubscriptionType, RateLimitTier: l.RateLimitTier, State: vault.StateValid,
	}
	c.Advance(prev, now)
	return c
}
