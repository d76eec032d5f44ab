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

// Parse reads a credential file. Errors wrap ErrSyntax and name line and column.
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
	others, err := json.Marshal(top)
	if err != nil {
		return nil, fmt.Errorf("%w: other members cannot be kept", ErrSyntax)
	}
	f.Others = vault.NewSecret(others)
	return f, nil
}

func parseLogin(raw []byte) (*Login, error) {
	var w struct {
		AccessToken      *string  `json:"accessToken"`
		RefreshToken     *string  `json:"refreshToken"`
		ExpiresAt        *float64 `json:"expiresAt"`
		Scopes           []string `json:"scopes"`
		SubscriptionType *string  `json:"subscriptionType"`
		RateLimitTier    *string  `json:"rateLimitTier"`
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		var ute *json.UnmarshalTypeError
		if errors.As(err, &ute) {
			return nil, fmt.Errorf("%w: %s.%s: want %s, found %s", ErrSyntax, loginKey, ute.Field, wanted(ute.Field), ute.Value)
		}
		return nil, fmt.Errorf("%w: %s: want an object", ErrSyntax, loginKey)
	}
	l := &Login{
		AccessToken: vault.NewSecret([]byte(deref(w.AccessToken))), RefreshToken: vault.NewSecret([]byte(deref(w.RefreshToken))),
		Scopes: w.Scopes, SubscriptionType: deref(w.SubscriptionType), RateLimitTier: deref(w.RateLimitTier),
	}
	if w.ExpiresAt != nil && *w.ExpiresAt > 0 {
		if *w.ExpiresAt < 1e11 || *w.ExpiresAt > 1e14 {
			return nil, fmt.Errorf("%w: %s.expiresAt: want unix time in milliseconds", ErrSyntax, loginKey)
		}
		l.ExpiresAt = time.UnixMilli(int64(*w.ExpiresAt))
	}
	return l, nil
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

func wanted(field string) string {
	switch field {
	case "expiresAt":
		return "a number"
	case "scopes":
		return "a list of strings"
	default:
		return "a string"
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
