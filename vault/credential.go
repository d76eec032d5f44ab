package vault

import (
	"fmt"
	"regexp"
	"time"
)

// AccountID names one login in the vault, for example "default" or "work".
type AccountID string

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// ParseAccountID checks that s may name an account: 1 to 63 letters, digits, dots, underscores and dashes, starting
// with a letter or digit.
func ParseAccountID(s string) (AccountID, error) {
	if !namePattern.MatchString(s) {
		return "", fmt.Errorf("account name %q: want 1 to 63 letters, digits, '.', '_' or '-', starting with a letter or digit", s)
	}
	return AccountID(s), nil
}

// State says what can be done with a credential.
type State string

// The states of a credential.
const (
	// StateValid is a login that can be refreshed.
	StateValid State = "valid"
	// StateDead is a login whose refresh token the authorization server refused: only a new login helps.
	StateDead State = "dead"
	// StateHold is an account that the provider has put on hold; Why names the page to visit.
	StateHold State = "hold"
)

// Intent records that a grant with the current refresh token has begun. One that is still there at start-up means
// that the grant is in doubt: the server may have rotated the token.
type Intent struct {
	ID string    `json:"id"`
	At time.Time `json:"at"`
}

// Kind says what an account is.
type Kind string

// The kinds of accounts.
const (
	KindOAuth  Kind = ""        // a login, with an access token
	KindAPIKey Kind = "api-key" // an API key, in place of the access token; it has no end and is not renewed
)

// Credential is one login: the tokens of a grant (RFC 6749) and what the client shows of the subscription.
type Credential struct {
	Account      AccountID
	Kind         Kind
	AccessToken  Secret
	RefreshToken Secret // empty: a static token that cannot be refreshed
	// ExpiresAt is when the access token ends; zero when the login did not say.
	ExpiresAt time.Time
	// IssuedAt is when this access token was obtained, or imported.
	IssuedAt time.Time
	// RotatedAt is the modification time that readers see: strictly increasing from one access token to the next,
	// by at least a millisecond, and stable in between.
	RotatedAt time.Time
	// Generation counts the access tokens of the account, from 1; a new login goes on counting.
	Generation       uint64
	Scopes           []string
	SubscriptionType string
	RateLimitTier    string
	State            State
	Why              string // for dead and hold: what the server said, without secrets
	Intent           *Intent
	// Origin is the write to a credential file that this login came with, "" for others. Every credential that a grant
	// makes of it keeps it: a server that has to repeat the write sees that the login was taken already.
	Origin string
}

// Lifetime is how long the access token was valid for when it was issued; 0 when unknown.
func (c *Credential) Lifetime() time.Duration {
	if c.ExpiresAt.IsZero() || c.IssuedAt.IsZero() {
		return 0
	}
	return c.ExpiresAt.Sub(c.IssuedAt)
}

// Usable reports whether the access token can still be handed out at now.
func (c *Credential) Usable(now time.Time) bool {
	return !c.AccessToken.IsZero() && (c.ExpiresAt.IsZero() || now.Before(c.ExpiresAt))
}

// Advance gives c the next generation and a modification time after that of prev (nil for a first login).
func (c *Credential) Advance(prev *Credential, now time.Time) {
	c.Generation, c.RotatedAt = 1, now.Truncate(time.Millisecond)
	if prev == nil {
		return
	}
	c.Generation = prev.Generation + 1
	if next := prev.RotatedAt.Add(time.Millisecond); c.RotatedAt.Before(next) {
		c.RotatedAt = next
	}
}
