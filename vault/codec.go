package vault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// credentialVersion is the format of a credential record; a higher one is refused with ErrNewer. Version 2 has an
// origin, version 3 a kind; what has neither is written as version 1, which earlier programs read. They must not take a
// key for a token.
const credentialVersion = 3

// storedCredential is the plaintext of a credential record. Times are unix milliseconds, 0 for none.
type storedCredential struct {
	Version          int       `json:"version"`
	Account          AccountID `json:"account"`
	Kind             Kind      `json:"kind,omitempty"`
	AccessToken      string    `json:"access_token"`
	RefreshToken     string    `json:"refresh_token,omitempty"`
	ExpiresAt        int64     `json:"expires_at,omitempty"`
	IssuedAt         int64     `json:"issued_at,omitempty"`
	RotatedAt        int64     `json:"rotated_at"`
	Generation       uint64    `json:"generation"`
	Scopes           []string  `json:"scopes"`
	SubscriptionType string    `json:"subscription_type,omitempty"`
	RateLimitTier    string    `json:"rate_limit_tier,omitempty"`
	State            State     `json:"state"`
	Why              string    `json:"why,omitempty"`
	Intent           *Intent   `json:"intent,omitempty"`
	Origin           string    `json:"origin,omitempty"`
}

func encodeCredential(c *Credential) ([]byte, error) {
	version := 1
	switch {
	case c.Kind != KindOAuth:
		version = 3
	case c.Origin != "":
		version = 2
	}
	b, err := json.Marshal(storedCredential{
		Version: version, Account: c.Account, Kind: c.Kind,
		AccessToken: string(c.AccessToken.Reveal()), RefreshToken: string(c.RefreshToken.Reveal()),
		ExpiresAt: millis(c.ExpiresAt), IssuedAt: millis(c.IssuedAt), RotatedAt: millis(c.RotatedAt),
		Generation: c.Generation, Scopes: c.Scopes, SubscriptionType: c.SubscriptionType,
		RateLimitTier: c.RateLimitTier, State: c.State, Why: c.Why, Intent: c.Intent, Origin: c.Origin,
	})
	if err != nil {
		return nil, fmt.Errorf("encode credential %s: %w", c.Account, err)
	}
	return b, nil
}

func decodeCredential(b []byte) (*Credential, error) {
	var probe struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &probe); err != nil {
		return nil, fmt.Errorf("%w: decode credential", ErrCorrupt)
	}
	if probe.Version > credentialVersion {
		return nil, fmt.Errorf("%w: credential version %d, this is version %d", ErrNewer, probe.Version, credentialVersion)
	}
	var s storedCredential
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		// The decoder's text can quote the record, so it is not passed on.
		return nil, fmt.Errorf("%w: decode credential", ErrCorrupt)
	}
	if s.Kind != KindOAuth && s.Kind != KindAPIKey {
		return nil, fmt.Errorf("%w: credential of an unknown kind", ErrNewer) // Fail closed: it is not taken for a login
	}
	return &Credential{
		Account: s.Account, Kind: s.Kind, AccessToken: NewSecret([]byte(s.AccessToken)), RefreshToken: NewSecret([]byte(s.RefreshToken)),
		ExpiresAt: fromMillis(s.ExpiresAt), IssuedAt: fromMillis(s.IssuedAt), RotatedAt: fromMillis(s.RotatedAt),
		Generation: s.Generation, Scopes: s.Scopes, SubscriptionType: s.SubscriptionType,
		RateLimitTier: s.RateLimitTier, State: s.State, Why: s.Why, Intent: s.Intent, Origin: s.Origin,
	}, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
