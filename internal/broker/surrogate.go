package broker

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/claudefs/claudefs/vault"
)

// surrogatePrefix begins every surrogate. It has the form of a refresh token, so that clients and secret scanners
// take it for one.
const surrogatePrefix = "sk-ant-ort01-claudefs-"

// surrogate is what a tree sees as refresh token: a MAC over tree, account and generation. It is worth nothing
// anywhere; where it turns up it tells which tree it was taken from.
func (b *Broker) surrogate(tree string, a vault.AccountID, generation uint64) (vault.Secret, error) {
	key, err := b.surrogateKey()
	if err != nil {
		return vault.Secret{}, err
	}
	m := hmac.New(sha256.New, key.Reveal())
	fmt.Fprintf(m, "%s\x00%s\x00%d", tree, a, generation)
	s := fmt.Sprintf("%s%d-%s", surrogatePrefix, generation, base64.RawURLEncoding.EncodeToString(m.Sum(nil)))
	return vault.NewSecret([]byte(s)), nil
}

func (b *Broker) surrogateKey() (vault.Secret, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hmac.IsZero() {
		key, err := b.cfg.Store.Derive("surrogate")
		if err != nil {
			return vault.Secret{}, err
		}
		b.hmac = key
	}
	return b.hmac, nil
}

// kind says what a refresh token that a client wrote is.
type kind int

const (
	kindNone    kind = iota // null, absent or empty
	kindOurs                // a surrogate of this tree
	kindForeign             // has the form of a surrogate and is none of this tree
	kindLogin               // anything else: a login made inside the tree
)

// kindOf recognises surrogates of every generation without remembering any.
func (b *Broker) kindOf(tree string, a vault.AccountID, token vault.Secret) (kind, error) {
	if token.IsZero() {
		return kindNone, nil
	}
	rest, ok := strings.CutPrefix(string(token.Reveal()), surrogatePrefix)
	if !ok {
		return kindLogin, nil
	}
	number, _, _ := strings.Cut(rest, "-")
	generation, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return kindForeign, nil
	}
	want, err := b.surrogate(tree, a, generation)
	if err != nil {
		return kindForeign, err
	}
	if !want.Equal(token) {
		return kindForeign, nil
	}
	return kindOurs, nil
}
