package refresh

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/claudefs/claudefs/vault"
)

// watchFor is how long after its last reader an account is still kept fresh. A client that idles longer finds its
// token renewed at its next open.
const watchFor = 24 * time.Hour

// backoffState is what the last failed grants of an account allow.
type backoffState struct {
	policy *backoff.ExponentialBackOff
	until  time.Time
	last   error
}

// Health is the state of an account's grants, for status.
type Health struct {
	RetryAt time.Time // zero: no failure is outstanding
	Err     error
}

// Health returns the outstanding failure of the account's grants, if there is one.
func (r *Refresher) Health(a vault.AccountID) Health {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.backoffs[a]; ok {
		return Health{RetryAt: b.until, Err: b.last}
	}
	return Health{}
}

// settle notes the outcome of a grant for c: success clears the back-off, failure lengthens it.
func (r *Refresher) settle(c *vault.Credential, err error) {
	a := c.Account
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.backoffs, a)
		return
	}
	b, ok := r.backoffs[a]
	if !ok {
		p := backoff.NewExponentialBackOff()
		p.InitialInterval, p.MaxInterval = time.Second, 5*time.Minute
		b = &backoffState{policy: p}
		r.backoffs[a] = b
	}
	pause := b.policy.NextBackOff()
	var ge *GrantError
	if errors.As(err, &ge) && ge.RetryAfter > pause {
		pause = min(ge.RetryAfter, 15*time.Minute)
		if left := time.Until(c.ExpiresAt); left > 0 { // while the token is good, never wait until it is not
			pause = min(pause, max(left/2, time.Second))
		}
	}
	b.until, b.last = time.Now().Add(pause), err
}

func (r *Refresher) notYet(a vault.AccountID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.backoffs[a]
	if !ok || !time.Now().Before(b.until) {
		return nil
	}
	return fmt.Errorf("%w (in %v): %w", ErrNotYet, time.Until(b.until).Round(100*time.Millisecond), b.last)
}

// Retry forgets the back-off of an account, after a new login.
func (r *Refresher) Retry(a vault.AccountID) {
	r.forget(a)
	r.poke()
}

// Watch has an account kept fresh as if somebody had just read it.
func (r *Refresher) Watch(a vault.AccountID) {
	r.mu.Lock()
	_, known := r.watched[a]
	r.watched[a] = time.Now()
	r.mu.Unlock()
	if !known {
		r.poke()
	}
}

func (r *Refresher) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run renews the tokens of accounts in use before they end, until ctx ends. A running client looks only at the
// file's modification time, so somebody has to act before its token dies. It then waits for grants under way.
func (r *Refresher) Run(ctx context.Context) error {
	var flights sync.WaitGroup
	defer flights.Wait()
	for {
		timer := time.NewTimer(r.renewDue(ctx, &flights))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// renewDue starts a grant for each watched account whose time has come and returns when to look again: at the next
// time that is due, and every 30 seconds in any case, because timers stand still while the machine sleeps.
func (r *Refresher) renewDue(ctx context.Context, flights *sync.WaitGroup) time.Duration {
	pause := 30 * time.Second
	now := time.Now()
	for _, a := range r.watchedAccounts(now) {
		c, err := r.Current(a)
		if err != nil {
			continue
		}
		at := r.dueOrWanted(c, now)
		if h := r.Health(a); h.RetryAt.After(at) {
			at = h.RetryAt
		}
		if at.IsZero() {
			continue
		}
		if left := at.Sub(now); left > 0 {
			pause = min(pause, left)
			continue
		}
		// Whatever comes of the grant is seen in a second at the latest. A failure must not wake the loop itself:
		// one that needs no network, such as a locked vault, would make it spin.
		pause = min(pause, time.Second)
		if r.beginRenewal(a) {
			flights.Go(func() {
				defer r.endRenewal(a)
				<-r.start(ctx, a, c.Generation, false)
			})
		}
	}
	return max(pause, 10*time.Millisecond)
}

// wantFor is how long Run goes on after a renewal that a reader asked for: a little longer than the client waits.
const wantFor = 20 * time.Second

// wish is for a token newer than generation.
type wish struct {
	generation uint64
	until      time.Time
}

// want has Run renew the account's token although it is not due.
func (r *Refresher) want(a vault.AccountID, generation uint64) {
	r.mu.Lock()
	r.wanted[a] = wish{generation, time.Now().Add(wantFor)}
	r.watched[a] = time.Now()
	r.mu.Unlock()
	r.poke()
}

// dueOrWanted is due, or now when somebody wants a newer token than c.
func (r *Refresher) dueOrWanted(c *vault.Credential, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	w, ok := r.wanted[c.Account]
	if !ok {
		return due(c, r.cfg.Window)
	}
	if now.After(w.until) || c.Generation > w.generation || c.State != vault.StateValid || c.RefreshToken.IsZero() {
		delete(r.wanted, c.Account)
		return due(c, r.cfg.Window)
	}
	return now
}

// beginRenewal reports whether Run has no grant under way for the account, and notes that it has one now.
func (r *Refresher) beginRenewal(a vault.AccountID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	busy := r.renewing[a]
	r.renewing[a] = true
	return !busy
}

func (r *Refresher) endRenewal(a vault.AccountID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.renewing, a)
}

func (r *Refresher) watchedAccounts(now time.Time) []vault.AccountID {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]vault.AccountID, 0, len(r.watched))
	for a, seen := range r.watched {
		if now.Sub(seen) > watchFor {
			delete(r.watched, a)
			continue
		}
		out = append(out, a)
	}
	return out
}
