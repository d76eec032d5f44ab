package refresh

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/claudefs/claudefs/internal/logkey"
	"github.com/claudefs/claudefs/vault"
)

// inDoubtRetries are the pauses before the same refresh token is sent again after an answer was lost: servers that
// forgive a repeat do so for seconds only.
var inDoubtRetries = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}

// fly runs one grant from lock to commit. Only here are tokens spent.
func (r *Refresher) fly(ctx context.Context, a vault.AccountID, generation uint64, force bool) (*vault.Credential, error) {
	release, err := r.cfg.Store.Exclusive(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("refresh %s: %w", a, err)
	}
	defer release()
	c, version, err := r.cfg.Store.Load(a)
	if err != nil {
		return nil, fmt.Errorf("refresh %s: %w", a, err)
	}
	if c.Generation > generation { // somebody else did it while we waited
		r.remember(c)
		return c, nil
	}
	if err := r.mayTry(c, force); err != nil {
		return nil, fmt.Errorf("refresh %s: %w", a, err)
	}
	n, err := r.spend(ctx, c, version)
	r.settle(a, err)
	if ev := r.report(a, n, c, err); ev != nil && err == nil {
		return nil, ev
	}
	if err != nil {
		return nil, fmt.Errorf("refresh %s: %w", a, err)
	}
	return n, nil
}

func (r *Refresher) mayTry(c *vault.Credential, force bool) error {
	switch {
	case c.State != vault.StateValid:
		return fmt.Errorf("%w: %s", ErrLoginRequired, c.Why)
	case c.RefreshToken.IsZero():
		return ErrStatic
	case force:
		return nil
	}
	return r.notYet(c.Account)
}

// spend writes the intent, sends the refresh token and commits the answer. The intent proves that the vault takes
// writes before the token is spent, and tells a later start that the grant is in doubt.
func (r *Refresher) spend(ctx context.Context, c *vault.Credential, version vault.Version) (*vault.Credential, error) {
	begun := *c
	begun.Intent = &vault.Intent{ID: randomID(), At: time.Now()}
	version, err := r.cfg.Store.Store(&begun, version)
	if err != nil {
		return nil, fmt.Errorf("no refresh token was sent: %w", err)
	}
	n, err := r.grantInDoubt(ctx, c)
	if err != nil {
		return nil, errors.Join(err, r.recordFailure(c, version, err))
	}
	if err := r.commit(ctx, n, version); err != nil {
		return nil, err
	}
	r.remember(n)
	return n, nil
}

// grantInDoubt sends the token, and again at once while the answer is lost.
func (r *Refresher) grantInDoubt(ctx context.Context, c *vault.Credential) (*vault.Credential, error) {
	for i := 0; ; i++ {
		n, err := r.grant(ctx, c)
		var ge *GrantError
		if err == nil || !errors.As(err, &ge) || ge.Class != ClassInDoubt || i == len(inDoubtRetries) {
			return n, err
		}
		select {
		case <-time.After(inDoubtRetries[i]):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// recordFailure drops the intent when the token was certainly not spent, keeps it while in doubt, and marks a login
// that the server refused, so that it is never sent again.
func (r *Refresher) recordFailure(c *vault.Credential, version vault.Version, err error) error {
	var ge *GrantError
	if !errors.As(err, &ge) || ge.Class == ClassInDoubt {
		return nil
	}
	after := *c
	after.Intent = nil
	switch ge.Class {
	case ClassDead:
		after.State, after.Why = vault.StateDead, ge.Error()
	case ClassHold:
		after.State, after.Why = vault.StateHold, ge.Error()
	}
	if _, err := r.cfg.Store.Store(&after, version); err != nil {
		return fmt.Errorf("record outcome: %w", err)
	}
	r.remember(&after)
	return nil
}

// commit stores the new tokens, trying again while the disk refuses: they exist nowhere else.
func (r *Refresher) commit(ctx context.Context, n *vault.Credential, version vault.Version) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		_, err := r.cfg.Store.Store(n, version)
		if err == nil {
			return nil
		}
		if errors.Is(err, vault.ErrConflict) { // a login was stored meanwhile: it is newer, ours is not needed
			return fmt.Errorf("commit: %w", err)
		}
		r.cfg.Log.Error("Rotated token is not durable yet", logkey.Account, string(n.Account), logkey.Err, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("commit rotated token: %w", err)
		}
	}
}

// report tells OnGrant. Fail closed: a rotation that cannot be audited is kept in the vault but not served by this
// flight; the next reader finds it there.
func (r *Refresher) report(a vault.AccountID, n, old *vault.Credential, err error) error {
	ev := Event{Account: a, Generation: old.Generation, ExpiresAt: old.ExpiresAt, Err: err}
	if n != nil {
		ev.Generation, ev.ExpiresAt = n.Generation, n.ExpiresAt
		r.cfg.Log.Info("Token refreshed", logkey.Account, string(a), logkey.ExpiresAt, n.ExpiresAt, logkey.Generation, n.Generation)
	} else {
		r.cfg.Log.Warn("Token not refreshed", logkey.Account, string(a), logkey.Err, err)
	}
	if r.cfg.OnGrant == nil {
		return nil
	}
	return r.cfg.OnGrant(ev)
}

func randomID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
