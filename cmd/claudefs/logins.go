package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/config"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// logins is what account commands do, through the daemon or, without one, on the vault itself.
type logins interface {
	List(context.Context) ([]accounts.Info, error)
	Show(context.Context, string) (accounts.Info, error)
	Import(context.Context, string, []byte) (accounts.Info, error)
	SetKey(context.Context, string, []byte) (accounts.Info, error)
	Remove(context.Context, string) error
	Refresh(ctx context.Context, account string, force bool) (accounts.Info, error)
}

// viaDaemon asks the daemon.
type viaDaemon struct{ c control.Client }

func (d viaDaemon) List(ctx context.Context) ([]accounts.Info, error) { return d.c.Accounts(ctx) }
func (d viaDaemon) Show(ctx context.Context, a string) (accounts.Info, error) {
	return d.c.Account(ctx, a)
}

func (d viaDaemon) Import(ctx context.Context, a string, b []byte) (accounts.Info, error) {
	return d.c.Import(ctx, a, b)
}

func (d viaDaemon) SetKey(ctx context.Context, a string, b []byte) (accounts.Info, error) {
	return d.c.SetKey(ctx, a, b)
}
func (d viaDaemon) Remove(ctx context.Context, a string) error { return d.c.Remove(ctx, a) }
func (d viaDaemon) Refresh(ctx context.Context, a string, force bool) (accounts.Info, error) {
	return d.c.Refresh(ctx, a, force)
}

// onVault works on the vault in this process.
type onVault struct{ a *accounts.Accounts }

func (v onVault) List(context.Context) ([]accounts.Info, error) { return v.a.List() }
func (v onVault) Show(_ context.Context, a string) (accounts.Info, error) {
	return v.a.Show(vault.AccountID(a))
}

func (v onVault) Import(ctx context.Context, a string, b []byte) (accounts.Info, error) {
	return v.a.Import(ctx, vault.AccountID(a), b)
}

func (v onVault) SetKey(ctx context.Context, a string, b []byte) (accounts.Info, error) {
	return v.a.SetKey(ctx, vault.AccountID(a), b)
}

func (v onVault) Remove(ctx context.Context, a string) error {
	return v.a.Remove(ctx, vault.AccountID(a))
}

func (v onVault) Refresh(ctx context.Context, a string, force bool) (accounts.Info, error) {
	return v.a.Refresh(ctx, vault.AccountID(a), force)
}

// withLogins runs do against the daemon, or against the vault when there is none. create makes the vault if needed.
func (e *env) withLogins(ctx context.Context, create bool, do func(logins) error) error {
	client, c, err := e.daemon()
	if err != nil {
		return err
	}
	if _, err := client.Status(ctx); !errors.Is(err, control.ErrNoDaemon) {
		return do(viaDaemon{client})
	}
	v, err := e.openVault(ctx, c, create)
	if err != nil {
		return err
	}
	defer v.Lock()
	// Another command may be at work; it takes as long as a grant at most.
	log, err := audit.OpenWithin(c.Audit.File, 30*time.Second)
	if err != nil {
		return err
	}
	defer log.Close()
	tokens, err := refresh.New(refresh.Config{
		Store: v, TokenURL: c.OAuth.TokenURL, ClientID: c.OAuth.ClientID, Encoding: c.OAuth.Encoding, Window: c.Refresh.Window,
		OnGrant: accounts.RecordGrants(log),
	})
	if err != nil {
		return err
	}
	return do(onVault{&accounts.Accounts{Vault: v, Tokens: tokens, Audit: log}})
}

// openVault opens and unlocks the vault.
func (e *env) openVault(ctx context.Context, c *config.Config, create bool) (*vault.Vault, error) {
	cfg := vault.Config{Dir: c.VaultDir(), Passphrase: e.passphrase(c)}
	v, err := vault.Open(cfg)
	if errors.Is(err, vault.ErrNoVault) && create {
		backend, perr := vault.ParseBackend(c.Vault.Backend)
		if perr != nil {
			return nil, perr
		}
		v, notice, err := vault.Create(ctx, cfg, backend)
		if err == nil && notice != "" {
			fmt.Fprintf(e.Stderr, "claudefs: notice: %s\n", notice)
		}
		return v, err
	}
	if err != nil {
		return nil, err
	}
	return v, v.Unlock(ctx)
}
