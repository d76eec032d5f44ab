package broker

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// fits refuses an account of another kind than the rule gives: a key is no access token.
func fits(c *vault.Credential, d policy.Decision) error {
	if isKey := c.Kind == vault.KindAPIKey; isKey != (d.Credential == policy.CredentialAPIKey) {
		return fmt.Errorf("%w: account %q is not of the kind that the rule gives (credential: %s)", errNoAccount, c.Account, d.Credential)
	}
	return nil
}

// KeyStat implements fs.Keys. A key that is not known for now has no length; OpenKey says why.
func (b *Broker) KeyStat(name string) (fs.Stat, error) {
	if _, _, ok := b.policy.Load().APIKey(name); !ok {
		return fs.Stat{}, errNoCredential
	}
	c, err := b.expectedKey(name)
	if err != nil {
		return fs.Stat{Version: 1, ModTime: b.born(name)}, nil //nolint:nilerr // the file is there, and is refused
	}
	return keyStat(c), nil
}

// expectedKey is the key that the tree's name alone lets one expect.
func (b *Broker) expectedKey(name string) (*vault.Credential, error) {
	level, account, _ := b.policy.Load().APIKey(name)
	d := policy.Decision{Level: level, Account: account, Credential: policy.CredentialAPIKey}
	a, err := b.choose(d, b.tree(name), &document{})
	if err != nil {
		return nil, err
	}
	c, err := b.cfg.Tokens.Current(a)
	if err != nil {
		return nil, err
	}
	return c, fits(c, d)
}

func keyStat(c *vault.Credential) fs.Stat {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00", c.Account)
	_ = binary.Write(h, binary.LittleEndian, []uint64{c.Generation, uint64(c.RotatedAt.UnixMilli())})
	return fs.Stat{Version: h.Sum64(), Size: int64(len(c.AccessToken.Reveal())) + 1, ModTime: c.RotatedAt}
}

// OpenKey implements fs.Keys: the key and a newline.
func (b *Broker) OpenKey(ctx context.Context, caller identity.Caller, name string) (*fs.Snapshot, error) {
	t := b.tree(name)
	defer b.save(t)
	v, err := b.judgeFor(ctx, caller, t, audit.ActionRead, policy.CredentialAPIKey)
	if err != nil {
		return nil, err
	}
	if reason := b.limits.exceeded(limited{name, v.reader(), v.decision.ReadsPerMinute}); reason != "" {
		return nil, b.refuse(t, v, fmt.Errorf("%w: %s", policy.ErrDenied, reason))
	}
	c, err := b.key(ctx, t, v.decision)
	if err != nil {
		return nil, b.refuse(t, v, err)
	}
	if err := b.disclose(t, v, c, "API key"); err != nil {
		return nil, err // Fail closed: what cannot be recorded is not disclosed
	}
	return &fs.Snapshot{Stat: keyStat(c), Content: append(append([]byte(nil), c.AccessToken.Reveal()...), '\n')}, nil
}

// key is the key that a decision gives. A login that was made inside the tree is none.
func (b *Broker) key(ctx context.Context, t *tree, d policy.Decision) (*vault.Credential, error) {
	if _, err := b.document(t); err != nil {
		return nil, err
	}
	if !t.documented() {
		// Fail closed: a key has no end, so none is given while the vault cannot say that it still stands.
		return nil, fmt.Errorf("%w: %w", errNoToken, vault.ErrLocked)
	}
	account, err := b.choose(d, t, &document{})
	if err != nil {
		return nil, err
	}
	if err := t.pinTo(pin{account, d.RefreshToken, d.Rule}); err != nil {
		return nil, err
	}
	c, err := b.cfg.Tokens.Token(ctx, account)
	if err == nil {
		err = fits(c, d)
	}
	if err == nil {
		err = within(c, d)
	}
	return c, err
}
