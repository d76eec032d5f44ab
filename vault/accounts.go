package vault

import (
	"context"
	"fmt"
)

// Load returns an account's credential and its version. The credential is the caller's own; its secrets are shared
// and must not be wiped. ErrNotFound, ErrLocked, ErrCorrupt, ErrNewer.
func (v *Vault) Load(a AccountID) (*Credential, Version, error) {
	if !namePattern.MatchString(string(a)) { // it would be a path
		return nil, Version{}, fmt.Errorf("load %q: %w", a, ErrNotFound)
	}
	body, version, err := v.load(accountsDir, string(a))
	if err != nil {
		return nil, Version{}, err
	}
	v.mu.RLock()
	d, ok := v.decoded[a]
	v.mu.RUnlock()
	if !ok || d.version != version {
		if d, err = v.decode(a, body, version); err != nil {
			return nil, Version{}, err
		}
	}
	c := d.credential
	return &c, version, nil
}

// decoded is a credential of one version of its record: a reader's open asks for it several times.
type decoded struct {
	version    Version
	credential Credential
}

func (v *Vault) decode(a AccountID, body Secret, version Version) (decoded, error) {
	c, err := decodeCredential(body.Reveal())
	if err != nil {
		return decoded{}, fmt.Errorf("load %s: %w", a, err)
	}
	if c.Account != a {
		// Fail closed: the record says that it is somebody else's.
		return decoded{}, fmt.Errorf("load %s: %w: the record names account %q", a, ErrCorrupt, c.Account)
	}
	d := decoded{version, *c}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.key.IsZero() { // locked meanwhile: nothing decrypted stays
		v.decoded[a] = d
	}
	return d, nil
}

// Store replaces an account's credential if it is still at version want (zero: it must not exist). It returns only
// when the new record is on disk and has been read back. ErrConflict, ErrLocked.
func (v *Vault) Store(c *Credential, want Version) (Version, error) {
	if _, err := ParseAccountID(string(c.Account)); err != nil {
		return Version{}, err
	}
	body, err := encodeCredential(c)
	if err != nil {
		return Version{}, err
	}
	defer clear(body)
	return v.store(accountsDir, string(c.Account), body, want)
}

// Remove deletes an account. ErrNotFound when there is none.
func (v *Vault) Remove(a AccountID) error {
	if _, err := ParseAccountID(string(a)); err != nil {
		return err
	}
	return v.remove(accountsDir, string(a))
}

// Accounts lists the accounts in the vault by name, sorted; it works on a locked vault too.
func (v *Vault) Accounts() ([]AccountID, error) {
	names, err := v.list(accountsDir)
	if err != nil {
		return nil, err
	}
	out := make([]AccountID, len(names))
	for i, n := range names {
		out[i] = AccountID(n)
	}
	return out, nil
}

// Exclusive waits for the sole right to run a grant for the account, among all processes on the host.
func (v *Vault) Exclusive(ctx context.Context, a AccountID) (release func(), err error) {
	if _, err := ParseAccountID(string(a)); err != nil {
		return nil, err
	}
	return v.lockFile(ctx, v.path(accountsDir, string(a))+".grant")
}

// LoadDocument returns the sealed document of a tree: what a client stored beside its login. ErrNotFound.
func (v *Vault) LoadDocument(tree string) (Secret, Version, error) {
	if !namePattern.MatchString(tree) {
		return Secret{}, Version{}, fmt.Errorf("load document %q: %w", tree, ErrNotFound)
	}
	return v.load(treesDir, tree)
}

// StoreDocument replaces a tree's document if it is still at version want.
func (v *Vault) StoreDocument(tree string, doc Secret, want Version) (Version, error) {
	if !namePattern.MatchString(tree) {
		return Version{}, fmt.Errorf("store document %q: not a tree name", tree)
	}
	return v.store(treesDir, tree, doc.Reveal(), want)
}
