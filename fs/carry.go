package fs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"math/rand/v2"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// Orphans keeps descriptors of open files that have no name any more; nothing else leads to them.
type Orphans interface {
	Keep(name string, fd int) error
	Drop(name string)
	// Take returns a descriptor that an earlier server kept; it stays kept.
	Take(name string) (fd int, ok bool)
	Has(name string) bool
	Names() []string
}

// withObject adds a sealed object to an open's flags, for the next server. Without a ledger there is none.
func (c *Config) withObject(flags uint32, object uint64) uint32 {
	if c.Ledger == nil {
		return flags
	}
	return serve.WithObject(flags, object)
}

// tidy drops what an earlier server kept and nothing refers to any more: it died between two steps.
func (c *Config) tidy() {
	held := map[uint64]bool{}
	c.Ledger.Handles(func(_ uint64, h ledger.Handle, _ uint64) { held[uint64(h.Object)] = true })
	for _, id := range c.Sealed.IDs(sealed.KindSnapshot) {
		if !held[id] {
			c.Sealed.Delete(sealed.KindSnapshot, id)
		}
	}
	for _, id := range c.Sealed.IDs(sealed.KindChange) {
		if !held[id] {
			c.settle(id)
		}
	}
	for _, name := range c.Orphans.Names() {
		if k, _, ok := orphanOf(name); ok && c.Ledger.Find(k) == 0 {
			c.Orphans.Drop(name)
		}
	}
}

// sweeping knows which of the files that are kept nobody had open when it looked last.
type sweeping struct{ idle map[string]bool }

// sweep drops the files that nobody has had open since the last sweep. The kernel may know a replaced file for long, of
// which it has missed an answer; who looked its name up has used it by then.
func (s *sweeping) sweep(c *Config) {
	idle := map[string]bool{}
	for _, name := range c.Orphans.Names() {
		k, _, ok := orphanOf(name)
		switch {
		case !ok || c.Ledger.OpenHandles(c.Ledger.Find(k)) > 0:
		case s.idle[name]:
			c.Orphans.Drop(name)
		default:
			idle[name] = true
		}
	}
	s.idle = idle
}

// closed drops what an earlier server kept for a handle that is closed now.
func (c *Config) closed(h ledger.Handle, n *ledger.Node) {
	if h.Object != 0 {
		c.Sealed.Delete(sealed.KindSnapshot, uint64(h.Object))
		c.settle(uint64(h.Object))
	}
	if c.Ledger.OpenHandles(n.ID) == 0 {
		c.dropOrphan(n.Key)
	}
}

// settle ends a change that nobody has open any more. Its writer was told that the close failed, or was never told; what
// it wrote may be a login, so it is published all the same. What cannot be published now is left for the next server.
func (c *Config) settle(object uint64) {
	meta, content, ok := c.kept(sealed.KindChange, object)
	defer clear(content)
	if ok && meta.Dirty {
		change, err := c.Credentials.Redeem(meta.Tree, meta.Ticket)
		if err == nil {
			err = change.Publish(context.Background(), changeID(meta.Change), content)
		}
		switch {
		case err == nil, errors.Is(err, iofs.ErrPermission):
		default:
			c.Log.Warn("Written credential file is not published yet", "tree", meta.Tree, "err", err)
			return
		}
	}
	c.Sealed.Delete(sealed.KindChange, object)
}

// carried describes a draft, a change or a lock in sealed memory.
type carried struct {
	Tree   string          `json:"tree"`
	Name   string          `json:"name,omitempty"`
	Ino    uint64          `json:"ino,omitempty"`
	Owner  identity.Caller `json:"owner,omitzero"`
	Mode   uint32          `json:"mode,omitempty"`
	MTime  int64           `json:"mtime,omitempty"` // unix nanoseconds
	Ticket []byte          `json:"ticket,omitempty"`
	Dirty  bool            `json:"dirty,omitempty"`
	Change uint64          `json:"change,omitempty"`
}

// keep stores it with its content.
func (c *Config) keep(k sealed.Kind, id uint64, meta carried, body []byte) error {
	m, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("keep %s: %w", meta.Name, err)
	}
	return c.Sealed.Put(k, id, m, body)
}

// kept reads it again.
func (c *Config) kept(k sealed.Kind, id uint64) (meta carried, body []byte, ok bool) {
	m, body, ok := c.Sealed.Get(k, id)
	if !ok || json.Unmarshal(m, &meta) != nil {
		clear(body)
		return carried{}, nil, false
	}
	return meta, body, true
}

// freshIno is an inode number for a virtual file that was never there before.
func freshIno() uint64 { return virtualIno | rand.Uint64()>>3 }
