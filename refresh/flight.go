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

// flightTimeout bounds the wait for the account's lock, and then the grant with its commit.
const flightTimeout = 2 * time.Minute

// unsaved is the outcome of a grant that the vault has not taken yet. It exists nowhere else, so it is kept, and
// committed by the next flight instead of a grant, as long as the vault still shows the intent that it answers.
type unsaved struct {
	next   *vault.Credential
	intent string
}

// fly runs one grant from lock to commit. Only here are tokens spent.
func (r *Refresher) fly(ctx context.Context, a vault.AccountID, generation uint64, force bool) (*vault.Credential, error) {
	waiting, cancel := context.WithTimeout(ctx, flightTimeout)
	defer cancel()
	release, err := r.cfg.Store.Exclusive(waiting, a)
	if err != nil {
		return nil, fmt.Errorf("refresh %s: %w", a, err)
	}
	defer release()
	ctx, cancel = context.WithTimeout(ctx, flightTimeout)
	defer cancel()
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
	r.settle(c, err)
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
	if n := r.leftover(c); n != nil {
		if err := r.commit(ctx, n, c.Intent.ID, version); err != nil {
			return nil, err
		}
		return n, nil
	}
	begun := *c
	begun.Intent = &vault.Intent{ID: randomID(), At: time.Now()}
	version, err := r.cfg.Store.Store(&begun, version)
	if err != nil {
		return nil, fmt.Errorf("no refresh token was sent: %w", err)
	}
	n, inDoubt, err := r.grantInDoubt(ctx, c)
	if err != nil {
		return nil, errors.Join(err, r.recordFailure(c, version, err, inDoubt))
	}
	if err := r.commit(ctx, n, begun.Intent.ID, version); err != nil {
		return nil, err
	}
	return n, nil
}

// grantInDoubt sends the token, and again at once while the answer is lost. It reports whether the server may have
// rotated the token unseen, in this flight or in an earlier one.
func (r *Refresher) grantInDoubt(ctx context.Context, c *vault.Credential) (n *vault.Credential, inDoubt bool, err error) {
	inDoubt = c.Intent != nil
	for i := 0; ; i++ {
		n, err = r.grant(ctx, c)
		var ge *GrantError
		if err == nil || !errors.As(err, &ge) || ge.Class != ClassInDoubt {
			return n, inDoubt, err
		}
		inDoubt = true
		if i == len(inDoubtRetries) {
			return nil, inDoubt, err
		}
		select {
		case <-time.After(inDoubtRetries[i]):
		case <-ctx.Done():
			return nil, inDoubt, err
		}
	}
}

// recordFailure drops the intent when the token was certainly not spent, keeps it while in doubt, and marks a login
// that the server refused, so that it is never sent again.
func (r *Refresher) recordFailure(c *vault.Credential, version vault.Version, err error, inDoubt bool) error {
	var ge *GrantError
	if !errors.As(err, &ge) {
		return nil
	}
	after := *c
	after.Intent = nil
	switch {
	case ge.Class == ClassDead:
		after.State, after.Why = vault.StateDead, ge.Error()
	case ge.Class == ClassHold:
		after.State, after.Why = vault.StateHold, ge.Error()
	case inDoubt: // a refusal for now does not tell what became of an earlier request
		return nil
	}
	if _, err := r.cfg.Store.Store(&after, version); err != nil {
		return fmt.Errorf("record outcome: %w", err)
	}
	r.remember(&after)
	return nil
}

// commit stores the new tokens, trying again while the disk refuses: they exist nowhere else. What it cannot store is
// kept for the next flight.
func (r *Refresher) commit(ctx context.Context, n *vault.Credential, intent string, version vault.Version) error {
	r.keep(n, intent)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		_, err := r.cfg.Store.Store(n, version)
		if errors.Is(err, vault.ErrConflict) {
			now, its, loadErr := r.cfg.Store.Load(n.Account)
			switch {
			case loadErr == nil && now.AccessToken.Equal(n.AccessToken):
				version = its // an attempt that failed had put it in place, but not yet for good
			case loadErr == nil, errors.Is(loadErr, vault.ErrNotFound):
				r.drop(n.Account) // the account has a newer login, or is gone: ours is not needed
				return fmt.Errorf("commit: %w", err)
			}
		}
		if err == nil {
			r.drop(n.Account)
			r.remember(n)
			return nil
		}
		r.cfg.Log.Error("Rotated token is not durable yet", logkey.Account, string(n.Account), logkey.Err, err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("commit rotated token: %w", err)
		}
	}
}

func (r *Refresher) keep(n *vault.Credential, intent string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsaved[n.Account] = unsaved{next: n, intent: intent}
}

func (r *Refresher) drop(a vault.AccountID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.unsaved, a)
}

// leftover returns the tokens that an earlier flight got for c and could not commit, nil without any.
func (r *Refresher) leftover(c *vault.Credential) *vault.Credential {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u, ok := r.unsaved[c.Account]; ok && c.Intent != nil && c.Intent.ID == u.intent {
		return u.next
	}
	delete(r.unsaved, c.Account)
	return nil
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
