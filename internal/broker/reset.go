package broker

import (
	"fmt"
	"slices"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/vault"
)

// Reset forgets what a tree's clients did to their credential file: a logout, a login made inside, other members; and
// which account and container the tree belongs to. State files and accounts stay. vault.ErrNotFound: no such tree.
func (b *Broker) Reset(name string) error {
	if !slices.Contains(b.Trees(), name) {
		return fmt.Errorf("tree %s: %w", name, vault.ErrNotFound)
	}
	t := b.tree(name)
	doc, err := b.document(t)
	if err != nil {
		return err
	}
	c := &change{b: b, t: t}
	if err := b.change(t, c.shown(doc), func(d *document) {
		d.Account, d.LoggedOut, d.Removed, d.Others = "", false, false, nil
	}); err != nil {
		return err
	}
	t.mu.Lock()
	t.pin, t.claim, t.changed = nil, nil, true
	t.mu.Unlock()
	b.save(t)
	return b.cfg.Audit.Record(audit.Event{Action: audit.ActionAccounts, Outcome: audit.Allowed, Tree: name, Reason: "tree reset"})
}
