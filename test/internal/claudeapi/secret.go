package claudeapi

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
)

// Secret is a token, or a text that holds tokens. It prints, logs and marshals
// as its fingerprint; the text comes out through Reveal only.
type Secret struct{ text string }

// Reveal returns the text itself.
func (s Secret) Reveal() string { return s.text }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

// String returns the fingerprint, or "none".
func (s Secret) String() string {
	if s.IsZero() {
		return "none"
	}
	return "#" + Fingerprint(s.text)
}

// Format prints the fingerprint for every verb, %#v and %x included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText gives the fingerprint to encoding/json and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Fingerprint returns the first 8 hex digits of the token's SHA-256.
func Fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:4])
}

// Echo returns the answer which the double gives to prompt when it comes with
// the given access token.
func Echo(prompt, token string) string {
	return "echo:" + prompt + "#" + Fingerprint(token)
}
