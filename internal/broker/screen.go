package broker

import (
	"fmt"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// maxHanded bounds the tokens of a tree that are screened for: those of its latest generations.
const maxHanded = 8

// handed is what one generation disclosed.
type handed struct {
	generation uint64
	account    vault.AccountID
	access     vault.Secret
	surrogate  vault.Secret
}

func (b *Broker) remember(t *tree, c *vault.Credential) {
	t.mu.Lock()
	if t.read.account != c.Account || c.RotatedAt.After(t.read.rotated) {
		t.read, t.changed = reading{c.Account, c.RotatedAt}, true
	}
	known := len(t.handed) > 0 && t.handed[len(t.handed)-1].access.Equal(c.AccessToken)
	t.mu.Unlock()
	if known {
		return
	}
	s, err := b.surrogate(t.name, c.Account, c.Generation)
	if err != nil {
		s = vault.Secret{} // the vault is locked and no surrogate was shown
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = true
	t.handed = append(t.handed, handed{c.Generation, c.Account, c.AccessToken, s})
	t.handed = t.handed[max(0, len(t.handed)-maxHanded):]
}

// Check implements fs.Screen: a token that the tree was given must not come to rest in its state files.
func (b *Broker) Check(name string, text []byte) error {
	t := b.tree(name)
	t.mu.Lock()
	handed := t.handed
	t.mu.Unlock()
	for _, h := range handed {
		if !h.access.In(text) && !h.surrogate.In(text) {
			continue
		}
		reason := "a state file would have held a token of the tree"
		if err := b.cfg.Audit.Record(audit.Event{
			Action: audit.ActionWrite, Outcome: audit.Denied, Tree: name,
			Account: string(h.account), Generation: h.generation, Reason: reason,
		}); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s", policy.ErrDenied, reason)
	}
	return nil
}
