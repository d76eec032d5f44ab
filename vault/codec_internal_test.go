package vault

import (
	"errors"
	"testing"
)

// Fail closed: what a record of an unknown kind holds is not taken for an access token.
func TestUnknownKindOfCredential(t *testing.T) {
	for kind, want := range map[Kind]error{KindOAuth: nil, KindAPIKey: nil, "certificate": ErrNewer} {
		b, err := encodeCredential(&Credential{Account: "a", Kind: kind, AccessToken: NewSecret([]byte("x"))})
		if err != nil {
			t.Fatal(err)
		}
		if c, err := decodeCredential(b); !errors.Is(err, want) || (err == nil) != (c != nil) {
			t.Errorf("%q: got %v %v, want %v", kind, c, err, want)
		}
	}
}
