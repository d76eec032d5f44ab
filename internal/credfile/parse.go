package credfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/claudefs/claudefs/vault"
)

// MaxSize is the largest credential file that is looked at, in bytes. Real ones with many MCP logins have 20 KiB.
const MaxSize = 1 << 20

// loginKey is the member that holds the login.
const loginKey = "claudeAiOauth"

// ErrSyntax is wrapped by every error of Parse.
var ErrSyntax = errors.New("not a credential file")

// Login is the member claudeAiOauth.
type Login struct {
	AccessToken      vault.Secret
	RefreshToken     vault.Secret // empty for null, absent and ""
	ExpiresAt        time.Time    // zero when absent or null
	Scopes           []string
	SubscriptionType string
	RateLimitTier    string
}

// Blank reports whether the login carries no token at all, as the client writes after a logout.
func (l *Login) Blank() bool { return l == nil || l.AccessToken.IsZero() && l.RefreshToken.IsZero() }

// File is a parsed credential file.
type File struct {
	Login *Login // nil when claudeAiOauth is absent or null
	// Others is a JSON object with every other top-level member, "{}" when there is none. It may hold secrets.
	Others vault.Secret
}

// Parse reads a credential file. Errors wrap ErrSyntax and name line and column, or the member.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrSyntax, len(b), MaxSize)
	}
	if err := checkObject(b); err != nil {
		return nil, err
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(b, &top); err != nil {
		return nil, positioned(b, err)
	}
	f := &File{}
	if raw, ok := top[loginKey]; ok && string(bytes.TrimSpace(raw)) != "null" {
		l, err := parseLogin(raw)
		if err != nil {
			return nil, err
		}
		f.Login = l
	}
	delete(top, loginKey)
	others, err := marshal(top)
	if err != nil {
		return nil, fmt.Errorf("%w: other members cannot be kept", ErrSyntax)
	}
	f.Others = vault.NewSecret(others)
	return f, nil
}

func parseLogin(raw []byte) (*Login, error) {
	var m members
	if json.Unmarshal(raw, &m.raw) != nil {
		return nil, fmt.Errorf("%w: %s: want an object", ErrSyntax, loginKey)
	}
	var access, refresh, subscription, tier string
	var expires float64
	var scopes []*string
	m.read("accessToken", "a string", &access)
	m.read("refreshToken", "a string", &refresh)
	m.read("expiresAt", "a number", &expires)
	m.read("scopes", "a list of strings", &scopes)
	m.read("subscriptionType", "a string", &subscription)
	m.read("rateLimitTier", "a string", &tier)
	if m.err != nil {
		return nil, m.err
	}
	l := &Login{
		AccessToken: vault.NewSecret([]byte(access)), RefreshToken: vault.NewSecret([]byte(refresh)),
		SubscriptionType: subscription, RateLimitTier: tier,
	}
	for _, s := range scopes {
		if s == nil {
			return nil, fmt.Errorf("%w: %s.scopes: want a list of strings", ErrSyntax, loginKey)
		}
		l.Scopes = append(l.Scopes, *s)
	}
	if expires > 0 {
		if expires < 1e11 || expires > 1e14 {
			return nil, fmt.Errorf("%w: %s.expiresAt: want unix time in milliseconds", ErrSyntax, loginKey)
		}
		l.ExpiresAt = time.UnixMilli(int64(expires))
	}
	return l, nil
}

// members are those of the login, by exact name: encoding/json would take "ACCESSTOKEN" for accessToken too, and the
// client does not. Null counts as absent. The first mistake stays in err.
type members struct {
	raw map[string]json.RawMessage
	err error
}

func (m *members) read(name, want string, into any) {
	raw, ok := m.raw[name]
	// The decoder's text is not passed on: it quotes numbers.
	if ok && m.err == nil && json.Unmarshal(raw, into) != nil {
		m.err = fmt.Errorf("%w: %s.%s: want %s", ErrSyntax, loginKey, name, want)
	}
}

// CheckLogin reports what a file lacks to be imported as a login: tokens and scopes.
func (f *File) CheckLogin() error {
	switch {
	case f.Login == nil:
		return fmt.Errorf("%w: %s is missing", ErrSyntax, loginKey)
	case f.Login.AccessToken.IsZero():
		return fmt.Errorf("%w: %s.accessToken is missing or empty", ErrSyntax, loginKey)
	case len(f.Login.Scopes) == 0:
		return fmt.Errorf("%w: %s.scopes is missing or empty", ErrSyntax, loginKey)
	}
	return nil
}
