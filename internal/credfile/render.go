package credfile

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/claudefs/claudefs/vault"
)

// SizeClass is the step in which rendered files are padded, in bytes: st_size is a property of the inode, so readers
// that trust it must find the same size before and after a rotation.
const SizeClass = 1024

// Render writes a credential file: login and the members of others (a JSON object, or empty), sorted by name and padded
// with spaces and a final newline to a multiple of SizeClass. A nil login renders the other members alone.
func Render(login *Login, others vault.Secret) ([]byte, error) {
	top := map[string]json.RawMessage{}
	if !others.IsZero() {
		if err := json.Unmarshal(others.Reveal(), &top); err != nil || top == nil {
			return nil, fmt.Errorf("render credential file: other members: %w", ErrSyntax)
		}
		delete(top, loginKey) // a login comes from the vault, never from what a client left beside it
	}
	if login != nil {
		raw, err := json.Marshal(wireLogin(login))
		if err != nil {
			return nil, fmt.Errorf("render credential file: %w", err)
		}
		top[loginKey] = raw
	}
	b, err := marshal(top)
	if err != nil {
		return nil, fmt.Errorf("render credential file: %w", err)
	}
	return pad(b), nil
}

// marshal is json.Marshal without the escapes for HTML, which make some texts six times as long.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func wireLogin(l *Login) any {
	w := struct {
		AccessToken      string   `json:"accessToken"`
		RefreshToken     *string  `json:"refreshToken"`
		ExpiresAt        *int64   `json:"expiresAt"`
		Scopes           []string `json:"scopes"`
		SubscriptionType *string  `json:"subscriptionType"`
		RateLimitTier    *string  `json:"rateLimitTier"`
	}{
		AccessToken: string(l.AccessToken.Reveal()), Scopes: l.Scopes,
		SubscriptionType: orNull(l.SubscriptionType), RateLimitTier: orNull(l.RateLimitTier),
	}
	w.RefreshToken = orNull(string(l.RefreshToken.Reveal()))
	if !l.ExpiresAt.IsZero() {
		ms := l.ExpiresAt.UnixMilli()
		w.ExpiresAt = &ms
	}
	return w
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func pad(b []byte) []byte {
	n := (len(b) + 1 + SizeClass - 1) / SizeClass * SizeClass
	out := make([]byte, n)
	copy(out, b)
	copy(out[len(b):], bytes.Repeat([]byte{' '}, n-len(b)-1))
	out[n-1] = '\n'
	return out
}
