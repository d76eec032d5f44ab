package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/logkey"
	"github.com/claudefs/claudefs/internal/version"
)

// Run mounts and serves until ctx ends, Stop is called, or the mount goes away. What was set up is undone in reverse.
func (d *Daemon) Run(ctx context.Context) (err error) {
	ctx, d.stop = context.WithCancel(ctx)
	defer d.stop()
	d.since = time.Now()
	undo := &undoStack{}
	defer func() { err = errors.Join(err, undo.run()) }()
	if err := harden(); err != nil {
		return err
	}
	lock, err := d.lockState()
	if err != nil {
		return err
	}
	undo.push(lock.Close)
	repaired, err := fs.Prepare(d.opt.Mountpoint, d.opt.Config.StateDir)
	if err != nil {
		return err
	}
	if repaired {
		d.opt.Log.Warn("Dead mount was taken away", logkey.Mountpoint, d.opt.Mountpoint)
	}
	// The socket before the vault: fail before anybody is asked for a passphrase.
	server, err := control.Listen(d.opt.Config.ControlSocket())
	if err != nil {
		return err
	}
	undo.push(server.Close)
	if d.audit, err = audit.Open(d.opt.Config.Audit.File); err != nil {
		return err
	}
	undo.push(d.audit.Close)
	notice, err := d.openVault(ctx)
	if err != nil {
		return err
	}
	undo.push(func() error { d.vault.Lock(); return nil })
	if err := d.build(); err != nil {
		return err
	}
	undo.push(func() error { d.tokens.Drain(); return nil }) // after the mount is gone, before the vault is locked
	return d.serve(ctx, server, notice, undo)
}

// serve mounts and runs the parts until one ends.
func (d *Daemon) serve(ctx context.Context, server *control.Server, notice string, undo *undoStack) error {
	if err := d.audit.Record(audit.Event{
		Action: audit.ActionStart, Outcome: audit.Allowed,
		Reason: fmt.Sprintf("policy %s, version %s", d.opt.PolicyName, version.Version),
	}); err != nil {
		return err
	}
	m, err := d.mount()
	if err != nil {
		return err
	}
	undo.push(m.Close)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(ctx, d) })
	g.Go(func() error { return d.tokens.Run(ctx) })
	g.Go(func() error { return d.cache.Run(ctx) })
	g.Go(func() error { return d.watch(ctx, m) })
	_, _ = sdnotify.SdNotify(false, sdnotify.SdNotifyReady)
	if d.opt.Ready != nil {
		d.opt.Ready(notice)
	}
	err = g.Wait()
	_, _ = sdnotify.SdNotify(false, sdnotify.SdNotifyStopping)
	return errors.Join(err, d.audit.Record(audit.Event{Action: audit.ActionStop, Outcome: audit.Allowed}))
}

// mount mounts, and tells the resolver which device is ours. A request that comes in between finds no mount table
// with our device and is refused.
func (d *Daemon) mount() (*fs.Mounted, error) {
	m, err := fs.Mount(fs.Config{
		Mountpoint: d.opt.Mountpoint, Gate: d.broker, Credentials: d.broker, Locks: d.broker, Screen: d.broker,
		AllowOther: true, Log: d.opt.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fs.ErrMountpoint, err)
	}
	dev, err := m.Dev()
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	d.resolver.SetDevice(dev)
	return m, nil
}

// watch ends the group when ctx ends or somebody unmounts from outside.
func (d *Daemon) watch(ctx context.Context, m *fs.Mounted) error {
	gone := make(chan struct{})
	go func() {
		m.Wait()
		close(gone)
	}()
	select {
	case <-ctx.Done():
	case <-gone:
		d.opt.Log.Info("Unmounted from outside", logkey.Mountpoint, d.opt.Mountpoint)
		d.stop()
	}
	return nil
}

// undoStack undoes what was set up, last first.
type undoStack struct{ steps []func() error }

func (u *undoStack) push(f func() error) { u.steps = append(u.steps, f) }

func (u *undoStack) run() error {
	var errs []error
	for i := len(u.steps) - 1; i >= 0; i-- {
		errs = append(errs, u.steps[i]())
	}
	return errors.Join(errs...)
}
