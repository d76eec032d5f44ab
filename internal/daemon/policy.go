package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/logkey"
	"github.com/claudefs/claudefs/internal/volatile"
	"github.com/claudefs/claudefs/policy"
)

// settleFor is how long a policy file has to be left alone before it is read: a half-written one may be valid, and say
// something else.
const settleFor = 300 * time.Millisecond

// policyRead is how the policy was read last.
type policyRead struct {
	at    time.Time // when the one in force was read
	rules int
	err   error // why the file is not in force as it is now
}

// ReloadPolicy implements control.Daemon: it reads the policy again and puts it in force, whole or not at all.
func (d *Daemon) ReloadPolicy() (control.PolicyStatus, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	p, err := policy.Load(d.policyPath)
	if err == nil {
		err = d.audit.Record(audit.Event{Action: audit.ActionPolicy, Outcome: audit.Allowed, Reason: fmt.Sprintf("%s, %d rules", d.opt.PolicyName, len(p.Rules))})
	}
	if err != nil {
		// Fail closed: what was in force stays in force.
		last := *d.policy.Load()
		last.err = err
		d.policy.Store(&last)
		d.opt.Log.Error("Policy is not changed", logkey.Path, d.policyPath, logkey.Err, err)
		return d.policyStatus(), fmt.Errorf("reload policy: %w", err)
	}
	d.broker.SetPolicy(p)
	d.keepPolicy(p)
	d.policy.Store(&policyRead{at: time.Now(), rules: len(p.Rules)})
	d.opt.Log.Info("Policy is in force", logkey.Path, d.policyPath, "rules", len(p.Rules))
	return d.policyStatus(), nil
}

func (d *Daemon) policyStatus() control.PolicyStatus {
	r := d.policy.Load()
	s := control.PolicyStatus{Rules: r.rules, ReadAt: r.at.UTC()}
	if r.err != nil {
		s.Error = r.err.Error()
	}
	return s
}

// findPolicy makes the policy's path independent of the working directory; an embedded policy has none.
func (d *Daemon) findPolicy() error {
	d.policyPath = d.opt.PolicyName
	d.policy.Store(&policyRead{at: time.Now(), rules: len(d.opt.Policy.Rules), err: d.opt.PolicyErr})
	if _, ok := policy.Builtin(d.policyPath); ok {
		return nil
	}
	path, err := filepath.Abs(d.policyPath)
	d.policyPath = path
	return err
}

// InForce is where the policy in force is kept, below the runtime directory: a server that follows after a crash goes on
// with it when the file has become bad meanwhile.
const InForce = "policy-in-force.yaml"

func (d *Daemon) keepPolicy(p *policy.Policy) {
	if err := volatile.WriteFile(d.inForcePath(), p.Text(), 0o600); err != nil {
		d.opt.Log.Warn("Policy in force is not kept for a server after a crash", logkey.Err, err)
	}
}

func (d *Daemon) inForcePath() string { return filepath.Join(d.opt.Config.RuntimeDir, InForce) }

// watchPolicy reloads the policy after its file has changed, until ctx ends. What it cannot watch is read on command
// only.
func (d *Daemon) watchPolicy(ctx context.Context) error {
	if !filepath.IsAbs(d.policyPath) {
		return nil
	}
	w, err := fsnotify.NewWatcher()
	if err == nil {
		defer w.Close()
		err = w.Add(filepath.Dir(d.policyPath)) // the file itself is replaced by editors
	}
	if err != nil {
		d.opt.Log.Warn("Policy file is not watched; use claudefs policy reload", logkey.Path, d.policyPath, logkey.Err, err)
		return nil
	}
	settled := time.NewTimer(settleFor)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-w.Events:
			if !ok {
				return nil
			}
			if e.Name == d.policyPath && e.Op != fsnotify.Chmod {
				settled.Reset(settleFor)
			}
		case err := <-w.Errors:
			d.opt.Log.Warn("Changes of the policy file may be missed", logkey.Err, err)
		case <-settled.C:
			if _, err := os.Stat(d.policyPath); err == nil { // between two names, or gone: what is in force stays
				_, _ = d.ReloadPolicy() // status and log say what came of it
			}
		}
	}
}
