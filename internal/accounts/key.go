package accounts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claudefs/claudefs/vault"
)

// MaxKey bounds the length of an API key, in bytes.
const MaxKey = 4 << 10

// CheckKey returns the key that a file holds, without blanks around it. Errors do not quote it.
func CheckKey(file []byte) ([]byte, error) {
	key := bytes.TrimSpace(file)
	switch {
	case len(key) == 0:
		return nil, errors.New("set key: it is empty; give the key on standard input or in a file")
	case len(key) > MaxKey:
		return nil, fmt.Errorf("set key: %d bytes, want %d at most", len(key), MaxKey)
	case bytes.HasPrefix(key, []byte("sk-ant-oat")), bytes.HasPrefix(key, []byte("sk-ant-ort")):
		return nil, errors.New("set key: it is a token of a login; use claudefs import")
	}
	for _, c := range key {
		if c <= ' ' || c > '~' {
			return nil, errors.New("set key: want one word of printable ASCII")
		}
	}
	return key, nil
}

// SetKey stores an API key as an account: a new one, or the next key of one that exists.
func (a *Accounts) SetKey(ctx context.Context, id vault.AccountID, file []byte) (Info, error) {
	if _, err := vault.ParseAccountID(string(id)); err != nil {
		return Info{}, err
	}
	key, err := CheckKey(file)
	if err != nil {
		return Info{}, err
	}
	release, err := a.Vault.Exclusive(ctx, id)
	if err != nil {
		return Info{}, err
	}
	defer release()
	prev, version, err := a.Vault.Load(id)
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		return Info{}, err
	}
	if prev != nil && prev.Kind != vault.KindAPIKey {
		return Info{}, fmt.Errorf("set key: account %s is a login; choose another name, or remove it first", id)
	}
	now := time.Now()
	c := &vault.Credential{Account: id, Kind: vault.KindAPIKey, AccessToken: vault.NewSecret(bytes.Clone(key)), IssuedAt: now, State: vault.StateValid}
	c.Advance(prev, now)
	if _, err := a.Vault.Store(c, version); err != nil {
		return Info{}, err
	}
	a.Tokens.Retry(id)
	return a.describe(id), a.record(id, "key set", c.AccessToken.Fingerprint())
}
