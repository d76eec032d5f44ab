// Package accounts is what an operator does with the logins in the vault: import, list, show, remove, refresh. The
// daemon runs it for the commands that reach it, and a command runs it itself when there is no daemon.
package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// Info is one account as operators see it. It holds no secret.
type Info struct {
	Name             string    `json:"name"`
	Kind             string    `json:"kind,omitempty"` // "api-key"; a login has none
	State            string    `json:"state"`          // valid, expired, dead, hold, locked or damaged
	ExpiresAt        time.Time `json:"expiresAt,omitzero"`
	RotatedAt        time.Time `json:"rotatedAt,omitzero"`
	Generation       uint64    `json:"generation,omitempty"`
	Refreshable      bool      `json:"refreshable"`
	Scopes           []string  `json:"scopes,omitempty"`
	SubscriptionType string    `json:"subscriptionType,omitempty"`
	RateLimitTier    string    `json:"rateLimitTier,omitempty"`
	Token            string    `json:"tokenFingerprint,omitempty"`
	Why              string    `json:"why,omitempty"`
	RetryAt          time.Time `json:"retryAt,omitzero"`
	InDoubt          bool      `json:"inDoubt,omitempty"`
}

// Recorder writes the audit log.
type Recorder interface {
	Record(audit.Event) error
}

// Accounts works on one vault.
type Accounts struct {
	Vault  *vault.Vault
	Tokens *refresh.Refresher
	Audit  Recorder
}

// List describes every account, sorted by name.
func (a *Accounts) List() ([]Info, error) {
	ids, err := a.Vault.Accounts()
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(ids))
	for _, id := range ids {
		out = append(out, a.describe(id))
	}
	return out, nil
}

// Show describes one account. vault.ErrNotFound when there is none.
func (a *Accounts) Show(id vault.AccountID) (Info, error) {
	ids, err := a.Vault.Accounts()
	if err != nil {
		return Info{}, err
	}
	if !slices.Contains(ids, id) {
		return Info{}, fmt.Errorf("account %s: %w", id, vault.ErrNotFound)
	}
	return a.describe(id), nil
}

func (a *Accounts) describe(id vault.AccountID) Info {
	i := Info{Name: string(id)}
	c, err := a.Tokens.Current(id)
	switch {
	case errors.Is(err, vault.ErrLocked):
		i.State = "locked"
		return i
	case err != nil:
		i.State, i.Why = "damaged", err.Error()
		return i
	}
	i.Kind, i.State, i.Why = string(c.Kind), string(c.State), c.Why
	if c.State == vault.StateValid && !c.Usable(time.Now()) {
		i.State = "expired"
	}
	i.ExpiresAt, i.RotatedAt, i.Generation = c.ExpiresAt, c.RotatedAt, c.Generation
	i.Refreshable = !c.RefreshToken.IsZero()
	i.Scopes, i.SubscriptionType, i.RateLimitTier = c.Scopes, c.SubscriptionType, c.RateLimitTier
	i.Token, i.InDoubt = c.AccessToken.Fingerprint(), c.Intent != nil
	if h := a.Tokens.Health(id); h.Err != nil {
		i.Why, i.RetryAt = h.Err.Error(), h.RetryAt
	}
	return i
}

// Import stores the login of a credential file as an account: a new one, or the next login of one that exists.
func (a *Accounts) Import(ctx context.Context, id vault.AccountID, file []byte) (Info, error) {
	if _, err := vault.ParseAccountID(string(id)); err != nil {
		return Info{}, err
	}
	f, err := credfile.Parse(file)
	if err == nil {
		err = f.CheckLogin()
	}
	if err != nil {
		return Info{}, fmt.Errorf("import: %w", err)
	}
	release, err := a.Vault.Exclusive(ctx, id)
	if err != nil {
		return Info{}, err
	}
	defer release()
	prev, version, err := a.Vault.Load(id)
	if err != nil && !errors.Is(err, vault.ErrNotFound) {
		return Info{}, err
	}
	if prev != nil && prev.Kind != vault.KindOAuth {
		return Info{}, fmt.Errorf("import: account %s is an API key; choose another name, or remove it first", id)
	}
	c := f.Login.Credential(id, prev, time.Now())
	if _, err := a.Vault.Store(c, version); err != nil {
		return Info{}, err
	}
	a.Tokens.Retry(id)
	return a.describe(id), a.record(id, "imported", c.AccessToken.Fingerprint())
}

// Remove deletes an account. Trees that use it have no login from then on.
func (a *Accounts) Remove(ctx context.Context, id vault.AccountID) error {
	release, err := a.Vault.Exclusive(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	if err := a.Vault.Remove(id); err != nil {
		return err
	}
	a.Tokens.Retry(id)
	return a.record(id, "removed", "")
}

// Refresh renews an account's token: when it is due, or at once with force.
func (a *Accounts) Refresh(ctx context.Context, id vault.AccountID, force bool) (Info, error) {
	var err error
	if force {
		_, err = a.Tokens.Force(ctx, id)
	} else {
		_, err = a.Tokens.Ensure(ctx, id)
	}
	if err != nil {
		return Info{}, err
	}
	return a.describe(id), nil
}

func (a *Accounts) record(id vault.AccountID, what, token string) error {
	return a.Audit.Record(audit.Event{Action: audit.ActionAccounts, Outcome: audit.Allowed, Account: string(id), Reason: what, Token: token})
}
