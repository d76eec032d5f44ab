package vault

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// redacted is what every formatter and encoder shows instead of a secret.
const redacted = "REDACTED"

var errSecretEncoding = errors.New("encode secret: refused")

// box is behind a pointer so that fmt, when it meets a Secret in an unexported field and cannot call its methods,
// prints an address and not the bytes. Inside is a pointer again: for a verb that does not suit a pointer, such as %s,
// fmt follows the first one.
type box struct{ b *[]byte }

// Secret holds bytes that must not be shown: tokens, keys, passphrases. It formats, logs and marshals as REDACTED.
// The zero value is the empty secret. A Secret may be copied; copies share the bytes.
type Secret struct{ p *box }

// NewSecret takes ownership of b: the caller must not use it again.
func NewSecret(b []byte) Secret {
	if len(b) == 0 {
		return Secret{}
	}
	return Secret{p: &box{b: &b}}
}

// Reveal returns the bytes themselves, not a copy. Only the codec, the grant and the renderer may call it; the
// architecture test lists them.
func (s Secret) Reveal() []byte {
	if s.p == nil {
		return nil
	}
	return *s.p.b
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return len(s.Reveal()) == 0 }

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare(s.Reveal(), o.Reveal()) == 1
}

// Clone returns a secret with bytes of its own.
func (s Secret) Clone() Secret { return NewSecret(append([]byte(nil), s.Reveal()...)) }

// Wipe overwrites the bytes, for this secret and every copy of it.
func (s Secret) Wipe() {
	if s.p != nil {
		clear(*s.p.b)
		*s.p.b = nil
	}
}

// Fingerprint names the secret without showing it: the first 4 bytes of SHA-256 over a domain and the secret, in hex.
// It is what logs and audit records carry.
func (s Secret) Fingerprint() string {
	if s.IsZero() {
		return ""
	}
	h := sha256.New()
	h.Write([]byte("claudefs fingerprint v1\x00"))
	h.Write(s.Reveal())
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return redacted }

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// GobEncode implements gob.GobEncoder; a secret is never encoded.
func (s Secret) GobEncode() ([]byte, error) { return nil, errSecretEncoding }

// telling is how many leading bytes of a secret tell it from everything else: a token's public prefix and half of its
// first line of randomness.
const telling = 24

// In reports whether text contains the secret, or so much of its beginning that it cannot be anything else: a writer
// that goes byte by byte is noticed long before the secret is complete. An empty secret is in no text.
func (s Secret) In(text []byte) bool {
	return !s.IsZero() && bytes.Contains(text, s.Reveal()[:min(len(s.Reveal()), telling)])
}
