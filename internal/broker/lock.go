package broker

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/sentinel"
	"github.com/claudefs/claudefs/vault"
)

// A client that keeps failing may ask for maxForced renewals within forcedSpan; then it has to wait. A rotation can
// revoke the old token for every other reader, so one broken client must not rotate without end.
const (
	maxForced  = 3
	forcedSpan = time.Minute
)

// busyFor is how long after a refusal the lock is shown as taken: a little longer than the client's wait.
const busyFor = 20 * time.Second

// errNoNewer: no newer token can be had now. It wraps fs.ErrExist: the lock looks taken.
var errNoNewer = sentinel.New("no newer token", iofs.ErrExist)

// Acquire implements fs.Locks. The client made the lock because its token failed or is about to end: it gets the lock
// as soon as its file holds a newer token than it has read.
func (b *Broker) Acquire(ctx context.Context, caller identity.Caller, name string) error {
	t := b.tree(name)
	defer b.save(t)
	v, err := b.judge(ctx, caller, t, audit.ActionRefresh)
	if err != nil {
		return err
	}
	doc, err := b.document(t)
	if err != nil {
		return err
	}
	p, ok := b.expected(t, doc)
	if !ok || doc.LoggedOut {
		return nil // a login is about to be made: nothing of ours to protect
	}
	c, err := b.cfg.Tokens.Current(p.account)
	if errors.Is(err, vault.ErrNotFound) {
		return nil
	}
	if err == nil && !t.hasRead(c) {
		t.setBusy(time.Time{})
		return nil // the newest token is there and this tree has not read it yet
	}
	if err == nil {
		err = b.renew(ctx, t, p.account, c.Generation)
	}
	if err != nil {
		t.setBusy(time.Now().Add(busyFor))
		e := v.event(audit.ActionRefresh, audit.Failed, name, err.Error())
		e.Account = string(p.account)
		return errors.Join(errNoNewer, b.cfg.Audit.Record(e))
	}
	t.setBusy(time.Time{})
	e := v.event(audit.ActionRefresh, audit.Allowed, name, "newer token is there")
	e.Account = string(p.account)
	return b.cfg.Audit.Record(e)
}

func (b *Broker) renew(ctx context.Context, t *tree, a vault.AccountID, generation uint64) error {
	if !t.mayForce(time.Now()) {
		return fmt.Errorf("the tree asked for %d renewals within %v", maxForced, forcedSpan)
	}
	_, err := b.cfg.Tokens.Renew(ctx, a, generation)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.forced, t.changed = append(t.forced, time.Now()), true
	t.mu.Unlock()
	return nil
}

// Busy implements fs.Locks: after a refusal the lock is shown until a newer token is there.
func (b *Broker) Busy(name string) bool {
	t := b.tree(name)
	t.mu.Lock()
	until, p := t.busy, t.pin
	t.mu.Unlock()
	if time.Now().After(until) || p == nil {
		return false
	}
	c, err := b.cfg.Tokens.Current(p.account)
	return err != nil || t.hasRead(c)
}

// hasRead reports whether the tree knows the token already.
func (t *tree) hasRead(c *vault.Credential) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return (t.read.account == "" || t.read.account == c.Account) && !c.RotatedAt.After(t.read.rotated)
}

func (t *tree) setBusy(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed = t.changed || !t.busy.Equal(until)
	t.busy = until
}

// mayForce reports whether another renewal is within the tree's allowance.
func (t *tree) mayForce(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.forced) > 0 && now.Sub(t.forced[0]) > forcedSpan {
		t.forced = t.forced[1:]
	}
	return len(t.forced) < maxForced
}
