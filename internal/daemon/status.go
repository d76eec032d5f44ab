package daemon

import (
	"context"
	"os"

	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/keeper"
	"github.com/claudefs/claudefs/internal/version"
)

// Status implements control.Daemon.
func (d *Daemon) Status(ctx context.Context) (*control.Status, error) {
	list, err := d.accounts.List()
	if err != nil {
		return nil, err
	}
	s := &control.Status{
		SchemaVersion: 1, Version: version.Version, PID: os.Getpid(), Since: d.since.UTC(),
		Mountpoint: d.opt.Mountpoint, Policy: d.opt.PolicyName, InForce: d.policyStatus(), Accounts: list, Trees: d.broker.Status(),
		Vault:    control.VaultStatus{Directory: d.opt.Config.VaultDir(), Locked: d.vault.Locked()},
		Runtimes: []control.RuntimeStatus{}, Keeper: d.keeperStatus(),
	}
	for _, b := range d.vault.Backends() {
		s.Vault.Backends = append(s.Vault.Backends, string(b))
	}
	for _, r := range d.runtimes {
		rs := control.RuntimeStatus{Socket: r.Host()}
		if rs.API, err = r.Ping(ctx); err != nil {
			rs.Error = err.Error()
		}
		s.Runtimes = append(s.Runtimes, rs)
	}
	return s, nil
}

// keeperStatus says who would hold the mount, and how it went so far.
func (d *Daemon) keeperStatus() control.KeeperStatus {
	s := control.KeeperStatus{Holder: string(d.carry.store.Kind()), Sealed: d.carry.sealed.FD() >= 0}
	if d.carry.ledger != nil {
		s.Servers, s.Nodes = d.carry.ledger.Generation(), d.carry.ledger.Nodes()
	}
	if r := d.reloaded.Load(); r != nil {
		s.HandOverAt, s.HandOverError = r.at, r.err
	}
	if d.carry.store.Kind() == fdstore.Keeper {
		if k, err := keeper.ReadStatus(d.opt.Config.RuntimeDir); err == nil {
			s.PID, s.Restarts, s.LastEnd, s.LastEndAt = k.PID, k.Restarts, k.LastEnd, k.LastEndAt
		}
	}
	return s
}
