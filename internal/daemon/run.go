package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/logkey"
	"github.com/claudefs/claudefs/internal/serve"
	"github.com/claudefs/claudefs/internal/version"
)

// Run mounts and serves until ctx ends, Stop is called, or the mount goes away. What was set up is undone in reverse.
func (d *Daemon) Run(ctx context.Context) (err error) {
	d.signaled = ctx.Err
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
	if d.carry, err = inherit(d.opt.Store); err != nil {
		return err
	}
	undo.push(d.closeCarry)
	if err := d.prepare(); err != nil {
		return err
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
	undo.push(func() error {
		if !d.leaves() { // else the key waits for the next server
			d.vault.Lock()
		}
		return nil
	})
	if err := d.build(); err != nil {
		return err
	}
	stayResident(d.carry.device < 0)
	undo.push(func() error { d.tokens.Drain(); return nil }) // after the mount is gone, before the vault is locked
	return d.serve(ctx, server, notice, undo)
}

// prepare makes the mountpoint ready, unless the mount is there already.
func (d *Daemon) prepare() error {
	if d.carry.device >= 0 {
		d.carry.forgetKey(d.opt.Config.Keeper.KeyTimeout)
		return nil
	}
	repaired, err := fs.Prepare(d.opt.Mountpoint, d.opt.Config.StateDir)
	if repaired {
		d.opt.Log.Warn("Dead mount was taken away", logkey.Mountpoint, d.opt.Mountpoint)
	}
	return err
}

// serve mounts, or takes the mount over, and runs the parts until one ends.
func (d *Daemon) serve(ctx context.Context, server *control.Server, notice string, undo *undoStack) error {
	tookOver := d.carry.device >= 0
	if err := d.recordStart(tookOver); err != nil {
		return err
	}
	if !tookOver {
		if err := d.broker.ClearEphemeral(); err != nil {
			return err
		}
	}
	m, err := d.attach()
	if err != nil {
		return err
	}
	d.mounted = m
	d.catchUp(m)
	undo.push(func() error {
		if d.leaves() {
			return nil
		}
		d.carry.forget() // first: killed in between, the mount ends with this process
		return m.Close()
	})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.answer(ctx, m) })
	if err := d.introduce(m, tookOver); err != nil {
		d.stop()
		return errors.Join(err, m.Close(), g.Wait())
	}
	g.Go(func() error { return server.Serve(ctx, d) })
	g.Go(func() error { return d.tokens.Run(ctx) })
	g.Go(func() error { return d.cache.Run(ctx) })
	g.Go(func() error { return d.beat(ctx, m) })
	g.Go(func() error { return d.replaceKeeper(ctx) })
	g.Go(func() error { return d.followOnReload(ctx) })
	g.Go(func() error { return d.watchPolicy(ctx) })
	g.Go(func() error { return d.broker.Sweep(ctx) })
	d.keepPolicy(d.opt.Policy)
	if d.opt.Ready != nil {
		d.opt.Ready(notice, tookOver)
	}
	err = g.Wait()
	return errors.Join(err, d.recordEnd(m))
}

func (d *Daemon) recordStart(tookOver bool) error {
	reason := fmt.Sprintf("policy %s, version %s", d.opt.PolicyName, version.Version)
	action := audit.ActionStart
	if tookOver {
		action = audit.ActionTakeOver // containers wait: not for the disk too
	}
	return d.audit.Record(audit.Event{Action: action, Outcome: audit.Allowed, Reason: reason})
}

// recordEnd ends the service: for good, or for the next server, which finds no request half-done.
func (d *Daemon) recordEnd(m *fs.Mounted) error {
	e := audit.Event{Action: audit.ActionStop, Outcome: audit.Allowed}
	if d.leaves() {
		pause, cancel := context.WithTimeout(context.Background(), pauseTimeout)
		defer cancel()
		m.Pause(pause.Done())
		e.Reason = "hand-over"
	} else {
		_ = d.carry.store.Notify("STOPPING=1")
		if err := errors.Join(os.Remove(d.inForcePath()), d.broker.ClearEphemeral()); err != nil {
			d.opt.Log.Warn("Something is left of this mount", logkey.Err, err)
		}
	}
	return d.audit.Record(e)
}

// leaves reports whether the mount stays for another server: the one that this process becomes, or the one that systemd
// starts in its place. systemd sends SIGTERM for a restart as for a stop; before a stop its unit has "claudefs unmount"
// run.
func (d *Daemon) leaves() bool {
	return d.Next() != "" || d.carry.store.Kind() == fdstore.Systemd && d.signaled() != nil && !d.asked.Load()
}

// fsConfig is the file system over this daemon's parts.
func (d *Daemon) fsConfig() fs.Config {
	c := fs.Config{
		Mountpoint: d.opt.Mountpoint, Gate: d.broker, Credentials: d.broker, Keys: d.broker, Locks: d.broker, Screen: d.broker, Settings: d.broker,
		AllowOther: true, Device: d.carry.device, Ledger: d.carry.ledger, Sealed: d.carry.sealed, Orphans: d.carry.store,
		Blame: serve.BlameOther, Log: d.opt.Log,
	}
	switch {
	case d.opt.LastEnd == fdstore.EndSelf:
		c.Blame = serve.BlameSelf
	case d.opt.Store.Kind() == fdstore.Systemd: // it does not tell how the last one ended
		c.Blame = serve.BlameUnknown
	}
	return c
}

// attach gets the mount and makes the file system ready for its requests.
func (d *Daemon) attach() (*fs.Mounted, error) {
	device, err := d.device()
	if err != nil {
		return nil, err
	}
	cfg := d.fsConfig()
	cfg.Device = device
	if d.carry.ledger != nil {
		if _, dev := d.carry.ledger.Mount(); dev != 0 {
			d.resolver.SetDevice(dev)
			d.broker.Recall()
		}
	}
	m, err := fs.Attach(cfg)
	if err != nil && d.carry.device < 0 {
		err = errors.Join(err, fs.Unmount(d.opt.Mountpoint))
	}
	return m, err
}

// introduce tells the resolver which device is ours, and the holder that the mount answers. A request that comes in
// between finds no mount table with our device and is refused.
func (d *Daemon) introduce(m *fs.Mounted, tookOver bool) error {
	if !tookOver {
		dev, err := m.Dev()
		if err != nil {
			return err
		}
		d.resolver.SetDevice(dev)
		if d.carry.ledger != nil {
			d.carry.ledger.SetMount(d.opt.Mountpoint, dev)
		}
		d.keepControls(dev)
	}
	if exe, err := os.Open("/proc/self/exe"); err == nil && d.carry.store.Kind() == fdstore.Keeper {
		_ = d.carry.store.Keep(fdstore.Exe, int(exe.Fd()))
		_ = exe.Close()
	}
	d.tellKeeper()
	return nil
}

// answer serves the mount, and ends the group when ctx ends or somebody unmounts from outside.
func (d *Daemon) answer(ctx context.Context, m *fs.Mounted) error {
	go m.Serve()
	select {
	case <-ctx.Done():
	case <-m.Done():
		d.opt.Log.Info("Unmounted from outside", logkey.Mountpoint, d.opt.Mountpoint)
		d.Stop()
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
