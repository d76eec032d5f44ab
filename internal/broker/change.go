package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// change is a permitted write to one tree's credential file.
type change struct {
	b *Broker
	t *tree
	v *verdict
	// id is the writing that is being published, "" for a removal.
	id string
}

// Write implements fs.Credentials: it attests the writer.
func (b *Broker) Write(ctx context.Context, caller identity.Caller, name string) (fs.Change, error) {
	t := b.tree(name)
	defer b.save(t)
	v, err := b.judge(ctx, caller, t, audit.ActionWrite)
	if err != nil {
		return nil, err
	}
	return &change{b: b, t: t, v: v}, nil
}

// maxOthers bounds what a tree's clients may keep beside the login, in bytes. Every reader is given a copy; files with
// many MCP logins have 20 KiB.
const maxOthers = 128 << 10

// Publish implements fs.Change: it looks at what arrived.
func (c *change) Publish(ctx context.Context, id string, content []byte) error {
	doc, err := c.b.document(c.t)
	if err != nil {
		return err
	}
	if slices.Contains(doc.Published, id) {
		return nil // by a server that did not get to say so; a newer login may be there by now
	}
	c.id = id
	f, err := credfile.Parse(content)
	if err != nil {
		return c.deny(err.Error())
	}
	if n := len(f.Others.Reveal()); n > maxOthers {
		return c.deny(fmt.Sprintf("other members have %d bytes, at most %d are kept", n, maxOthers))
	}
	if f.Login.Blank() {
		return c.logout(f.Others, false)
	}
	account, err := c.b.choose(c.v.decision, c.t, doc)
	if err != nil && !errors.Is(err, errNoAccount) {
		return err
	}
	k, err := c.b.kindOf(c.t.name, account, f.Login.RefreshToken)
	if err != nil {
		return err
	}
	switch k {
	case kindForeign:
		return c.deny("refresh token is a surrogate of another tree")
	case kindLogin:
		return c.capture(ctx, f, doc)
	default:
		return c.absorb(f.Others)
	}
}

// Remove implements fs.Change: the tree logs itself out.
func (c *change) Remove(context.Context) error { return c.logout(vault.Secret{}, true) }

// shown is what readers see now; a change must come after it.
func (c *change) shown(doc *document) moment {
	st, cred, err := c.b.describe(c.t, doc)
	switch {
	case err != nil:
		return moment{at: doc.changed()}
	case cred == nil:
		return moment{at: st.ModTime}
	}
	return moment{st.ModTime, cred.Generation}
}

// absorb keeps the client's other members and leaves the login as it is.
func (c *change) absorb(others vault.Secret) error {
	if err := c.record(audit.ActionAbsorb, audit.Allowed, "the login stays; other members are the tree's own"); err != nil {
		return err
	}
	doc, err := c.b.document(c.t)
	if err != nil {
		return err
	}
	if doc.holds(others) && !doc.Removed {
		return nil
	}
	return c.b.change(c.t, c.shown(doc), func(d *document) {
		d.Removed, d.Others = false, others.Reveal()
		d.published(c.id)
	})
}

// holds reports whether the document's other members are these already.
func (d *document) holds(others vault.Secret) bool {
	const none = "{}"
	return cmp.Or(string(d.Others), none) == cmp.Or(string(others.Reveal()), none)
}

// logout ends the login of this tree alone; the account and other trees keep theirs.
func (c *change) logout(others vault.Secret, removed bool) error {
	if err := c.record(audit.ActionLogout, audit.Allowed, "this tree alone; the account keeps its login"); err != nil {
		return err
	}
	doc, err := c.b.document(c.t)
	if err != nil {
		return err
	}
	if doc.LoggedOut && doc.Removed == removed && doc.holds(others) {
		return nil
	}
	return c.b.change(c.t, c.shown(doc), func(d *document) {
		d.LoggedOut, d.Removed, d.Others = true, removed, others.Reveal()
		d.published(c.id)
	})
}

// capture takes a login made inside the tree into the vault. Refusing it loses it: the client reports success anyway.
func (c *change) capture(ctx context.Context, f *credfile.File, doc *document) error {
	if c.v.decision.Login != policy.LoginCapture {
		return c.deny("a login was made inside the tree, and the rule says login: deny; it is lost")
	}
	if err := f.CheckLogin(); err != nil {
		return c.deny(err.Error())
	}
	account, ok := c.target(doc)
	if _, _, err := c.b.cfg.Store.Load(account); errors.Is(err, vault.ErrLocked) {
		return errors.Join(err, c.record(audit.ActionCapture, audit.Failed, err.Error()))
	}
	if !ok {
		return c.deny(fmt.Sprintf("a login was made inside the tree, and account %q belongs to others; it is lost", account))
	}
	shown := c.shown(doc)
	var err error
	if shown.generation, err = c.b.adopt(ctx, account, f.Login, c.id); err != nil {
		return errors.Join(err, c.record(audit.ActionCapture, audit.Failed, err.Error()))
	}
	c.b.cfg.Tokens.Retry(account)
	e := c.v.event(audit.ActionCapture, audit.Allowed, c.t.name, "login made inside the tree")
	e.Account = string(account)
	if err := c.b.cfg.Audit.Record(e); err != nil {
		return err
	}
	err = c.b.change(c.t, shown, func(d *document) {
		d.Account, d.LoggedOut, d.Removed, d.Others = account, false, false, f.Others.Reveal()
		d.published(c.id)
	})
	c.t.mu.Lock()
	c.t.pin, c.t.changed = nil, true // the next reader is pinned to the new account
	c.t.mu.Unlock()
	c.b.save(c.t)
	return err
}

// target is the account that a login made inside the tree becomes: one of the tree's own, whatever the tree used
// before. It never replaces an account that other trees or the operator use: whoever can write the file could
// otherwise have them work on a login of his. ok is false when no such name is free.
func (c *change) target(doc *document) (account vault.AccountID, ok bool) {
	own := vault.AccountID(c.t.name)
	d := c.v.decision
	byLevel := d.Account == "" && d.Level != policy.LevelShared // such a level gives an account to the tree of its name alone
	if own == doc.Account || byLevel || d.OwnAccount || !c.b.exists(own) {
		return own, true
	}
	const suffix = ".captured"
	other := own[:min(len(own), 63-len(suffix))] + suffix
	return other, other == doc.Account || !c.b.exists(other)
}

// adopt stores a login as the next generation of an account, which it returns.
func (b *Broker) adopt(ctx context.Context, a vault.AccountID, l *credfile.Login, origin string) (uint64, error) {
	release, err := b.cfg.Store.Exclusive(ctx, a)
	if err != nil {
		return 0, err
	}
	defer release()
	prev, version, err := b.cfg.Store.Load(a)
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		return 0, err
	}
	if err == nil && origin != "" && prev.Origin == origin {
		// Adopted already, by a server that did not get to say so. The login may have been refreshed since: what was
		// written then has a refresh token that was spent.
		return prev.Generation, nil
	}
	if prev != nil && prev.Kind != vault.KindOAuth {
		// Fail closed: a login made in a container must not take the place of a key.
		return 0, fmt.Errorf("%w: account %q is an API key", policy.ErrDenied, a)
	}
	c := l.Credential(a, prev, time.Now())
	c.Origin = origin
	_, err = b.cfg.Store.Store(c, version)
	return c.Generation, err
}

func (c *change) deny(reason string) error {
	if err := c.record(audit.ActionAbsorb, audit.Denied, reason); err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", policy.ErrDenied, reason)
}

func (c *change) record(a audit.Action, o audit.Outcome, reason string) error {
	return c.b.cfg.Audit.Record(c.v.event(a, o, c.t.name, reason))
}
