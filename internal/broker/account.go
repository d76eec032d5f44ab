package broker

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/claudefs/claudefs/internal/sentinel"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// pin is what a tree's readers get since the first of them was allowed.
type pin struct {
	account vault.AccountID
	refresh policy.RefreshToken
	rule    string // that gave it, "" before the first reader
}

// errNoAccount: the tree has no login to serve. It wraps fs.ErrPermission.
var errNoAccount = sentinel.New("no login for the tree", iofs.ErrPermission)

// choose picks the account for a decision: the login that was made inside the tree, the rule's, or the level's.
func (b *Broker) choose(d policy.Decision, t *tree, doc *document) (vault.AccountID, error) {
	if doc.Account != "" && d.Login == policy.LoginCapture && b.exists(doc.Account) {
		return doc.Account, nil
	}
	if d.Account != "" {
		return vault.AccountID(d.Account), nil
	}
	if d.Level == policy.LevelShared {
		return b.cfg.Account, nil
	}
	if own := vault.AccountID(t.name); b.exists(own) {
		return own, nil
	}
	if b.cfg.AccountGiven {
		return b.cfg.Account, nil
	}
	return "", fmt.Errorf("%w: account %q is missing", errNoAccount, t.name)
}

// exists reports whether the vault knows the account; one that cannot be read now does exist.
func (b *Broker) exists(a vault.AccountID) bool {
	_, err := b.cfg.Tokens.Current(a)
	return !errors.Is(err, vault.ErrNotFound)
}

// pinTo holds the tree to one account: another one that another rule would give is refused. What the same rule gives can
// change with the vault's accounts: the operator imported the tree's own, or removed it.
func (t *tree) pinTo(p pin) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.pinned(p); err != nil {
		return err
	}
	t.changed = t.changed || t.pin == nil || *t.pin != p
	t.pin = &p
	return nil
}

// pinned says why the tree cannot have p, nil when it can; t.mu is held.
func (t *tree) pinned(p pin) error {
	if t.pin != nil && t.pin.account != p.account && t.pin.rule != p.rule {
		return fmt.Errorf("%w: tree is pinned to account %q, the rule gives %q", policy.ErrDenied, t.pin.account, p.account)
	}
	return nil
}

// expected is the pin, or what the tree's name alone lets one expect before the first reader.
func (b *Broker) expected(t *tree, doc *document) (pin, bool) {
	t.mu.Lock()
	p := t.pin
	t.mu.Unlock()
	if p != nil {
		return *p, true
	}
	level, account, ok := b.policy.Load().Expected(t.name)
	if !ok {
		return pin{}, false
	}
	a, err := b.choose(policy.Decision{Level: level, Account: account, Login: policy.LoginCapture}, t, doc)
	return pin{account: a, refresh: policy.RefreshSurrogate}, err == nil
}
