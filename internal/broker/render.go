package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	iofs "io/fs"
	"time"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// render writes a tree's credential file. A nil credential renders what is left after a logout.
func (b *Broker) render(t *tree, doc *document, p pin, c *vault.Credential) ([]byte, error) {
	var others vault.Secret
	if len(doc.Others) > 0 {
		others = vault.NewSecret(doc.Others)
	}
	if c == nil {
		return credfile.Render(nil, others)
	}
	l := &credfile.Login{
		AccessToken: c.AccessToken, ExpiresAt: c.ExpiresAt, Scopes: c.Scopes,
		SubscriptionType: c.SubscriptionType, RateLimitTier: c.RateLimitTier,
	}
	if p.refresh != policy.RefreshNull {
		s, err := b.surrogate(t.name, c.Account, c.Generation)
		if err != nil {
			return nil, err
		}
		l.RefreshToken = s
	}
	return credfile.Render(l, others)
}

// stat describes a rendered file.
func stat(t *tree, doc *document, p pin, c *vault.Credential, size int) fs.Stat {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00", t.name, p.account, p.refresh)
	_ = binary.Write(h, binary.LittleEndian, doc.Generation)
	_ = binary.Write(h, binary.LittleEndian, int64(size)) // an inode has one size
	mtime := doc.changed()
	if c != nil {
		_ = binary.Write(h, binary.LittleEndian, c.Generation)
		_ = binary.Write(h, binary.LittleEndian, c.RotatedAt.UnixMilli()) // an account made anew counts from 1 again
		if c.Generation > doc.Seen {
			// A rotation after the change shows even when the clock stood still or went back in between.
			mtime = mtime.Add(time.Duration(c.Generation-doc.Seen) * time.Millisecond)
		}
		if c.RotatedAt.After(mtime) {
			mtime = c.RotatedAt
		}
	}
	return fs.Stat{Version: h.Sum64(), Size: int64(size), ModTime: mtime}
}

// Stat implements fs.Credentials. It identifies nobody and waits for nothing. For a tree without a usable login it
// describes a file that Open will refuse: a file that came and went would make clients log out.
func (b *Broker) Stat(name string) (fs.Stat, error) {
	if _, _, key := b.policy.Load().APIKey(name); key {
		return fs.Stat{}, errNoCredential
	}
	t := b.tree(name)
	doc, err := b.document(t)
	if err != nil {
		return fs.Stat{}, err
	}
	if doc.Removed {
		return fs.Stat{}, fmt.Errorf("tree %s is logged out: %w", name, iofs.ErrNotExist)
	}
	st, _, err := b.describe(t, doc)
	return st, err
}

// describe is what readers would see now, and the credential that it is made of: nil when there is none.
func (b *Broker) describe(t *tree, doc *document) (fs.Stat, *vault.Credential, error) {
	p, ok := b.expected(t, doc)
	if !ok || doc.LoggedOut {
		return stat(t, doc, pin{}, nil, b.leftSize(t, doc)), nil, nil
	}
	c, err := b.cfg.Tokens.Current(p.account)
	if err != nil {
		return stat(t, doc, pin{}, nil, credfile.SizeClass), nil, nil
	}
	size, err := b.size(t, doc, p, c)
	if err != nil {
		return fs.Stat{}, nil, err
	}
	return stat(t, doc, p, c, size), c, nil
}

// leftSize is the length of what is left after a logout.
func (b *Broker) leftSize(t *tree, doc *document) int {
	out, err := b.render(t, doc, pin{}, nil)
	if err != nil {
		return credfile.SizeClass
	}
	clear(out)
	return len(out)
}

// sizeKey is all that the size of a rendered file depends on.
type sizeKey struct {
	pin        pin
	generation uint64
	rotated    int64
	doc        uint64
}

// size is the length of the rendered file, worked out once per version.
func (b *Broker) size(t *tree, doc *document, p pin, c *vault.Credential) (int, error) {
	k := sizeKey{p, c.Generation, c.RotatedAt.UnixMilli(), doc.Generation}
	t.mu.Lock()
	if t.sized.key == k && t.sized.size > 0 {
		defer t.mu.Unlock()
		return t.sized.size, nil
	}
	t.mu.Unlock()
	out, err := b.render(t, doc, p, c)
	if errors.Is(err, vault.ErrLocked) {
		return credfile.SizeClass, nil
	}
	if err != nil {
		return 0, err
	}
	n := len(out)
	clear(out)
	t.mu.Lock()
	t.sized = sized{k, n}
	t.mu.Unlock()
	return n, nil
}

type sized struct {
	key  sizeKey
	size int
}

func (t *tree) noteReader(v *verdict, outcome string) {
	r := Reader{At: time.Now(), Outcome: outcome}
	if v.subject != nil {
		r.Container = v.subject.Container
	}
	if v.facts != nil {
		r.Name = v.facts.Name
	}
	t.mu.Lock()
	t.last = r
	t.mu.Unlock()
}
