package refresh

import (
	"time"

	"github.com/claudefs/claudefs/vault"
)

// window is how long before its end a token is renewed: the configured time, or a fifth of its lifetime when that is
// shorter. The client calls a token expired 5 minutes early, so the configured time should be above that.
func window(c *vault.Credential, configured time.Duration) time.Duration {
	if life := c.Lifetime(); life > 0 && life/5 < configured {
		return life / 5
	}
	return configured
}

// due is when the token should be renewed; zero for one that never ends or cannot be renewed.
func due(c *vault.Credential, configured time.Duration) time.Time {
	if c.ExpiresAt.IsZero() || c.RefreshToken.IsZero() || c.State != vault.StateValid {
		return time.Time{}
	}
	if c.Intent != nil {
		// A grant began and its end is not known: the server may have rotated the token and revoked this one.
		return c.Intent.At
	}
	return c.ExpiresAt.Add(-window(c, configured))
}

// fresh reports whether nothing needs to be done about the token at now.
func fresh(c *vault.Credential, configured time.Duration, now time.Time) bool {
	d := due(c, configured)
	return c.Usable(now) && (d.IsZero() || now.Before(d))
}
