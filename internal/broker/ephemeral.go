package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/claudefs/claudefs/internal/identity"
)

// place is where a tree's state files are. It stays the same for as long as the mount does.
type place string

const (
	placeUnknown    place = ""
	placePersistent place = "persistent"
	placeEphemeral  place = "ephemeral"
)

// tenant is a container that uses an ephemeral tree.
type tenant struct {
	Container string           `json:"container"`
	Witness   identity.Process `json:"witness"`
}

// sweepEvery is how often it is looked whether an ephemeral tree's last container has ended.
const sweepEvery = time.Second

// placed decides where a tree's state is, once.
func (b *Broker) placed(t *tree) place {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.place == placeUnknown {
		t.place, t.changed = placePersistent, true
		if b.cfg.EphemeralDir != "" && b.policy.Load().Ephemeral(t.name) {
			t.place = placeEphemeral
		}
	}
	return t.place
}

// root is the directory that holds a tree's state directory.
func (b *Broker) root(t *tree) string {
	if b.placed(t) == placeEphemeral {
		return b.cfg.EphemeralDir
	}
	return filepath.Join(b.cfg.StateDir, "trees")
}

// occupy notes a container that uses an ephemeral tree: its state stays until all of them have ended.
func (b *Broker) occupy(t *tree, s *identity.Subject) error {
	if b.placed(t) != placeEphemeral {
		return nil
	}
	t.sweeping.Lock() // not while the last one's files are taken away
	defer t.sweeping.Unlock()
	t.mu.Lock()
	known := slices.ContainsFunc(t.tenants, func(o tenant) bool { return o.Container == s.Container && b.cfg.Attestor.Alive(o.Witness) })
	t.mu.Unlock()
	if known {
		return nil
	}
	witness, err := b.cfg.Attestor.Witness(s, 0)
	if err != nil {
		// Fail closed: nobody would notice its end, and the next container would find its files.
		return fmt.Errorf("use ephemeral tree %s: %w: %w", t.name, identity.ErrDenied, err)
	}
	t.mu.Lock()
	t.tenants, t.changed = append(t.tenants, tenant{s.Container, witness}), true
	t.mu.Unlock()
	b.save(t)
	return nil
}

// Sweep takes the state of ephemeral trees away whose containers have ended, until ctx ends.
func (b *Broker) Sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		b.mu.Lock()
		var all []*tree
		for _, t := range b.trees {
			all = append(all, t)
		}
		b.mu.Unlock()
		for _, t := range all {
			b.sweep(t)
		}
	}
}

func (b *Broker) sweep(t *tree) {
	t.mu.Lock()
	had := slices.Clone(t.tenants)
	t.mu.Unlock()
	if len(had) == 0 {
		return
	}
	t.sweeping.Lock()
	defer t.sweeping.Unlock()
	left := slices.DeleteFunc(slices.Clone(had), func(o tenant) bool { return !b.cfg.Attestor.Alive(o.Witness) })
	if len(left) == len(had) {
		return
	}
	if len(left) == 0 {
		if err := b.empty(t.name); err != nil {
			return // tried again; a container that comes meanwhile finds what is left, as it would in a persistent tree
		}
	}
	t.mu.Lock()
	t.tenants, t.changed = left, true
	t.mu.Unlock()
	b.save(t)
}

// empty removes all files of an ephemeral tree and begins it anew. The directory itself stays: it is in use.
func (b *Broker) empty(name string) error {
	dir := filepath.Join(b.cfg.EphemeralDir, name)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("empty ephemeral tree %s: %w", name, err)
	}
	return plant(dir)
}

// ClearEphemeral removes all ephemeral state: what a mount before this one left, or what this one leaves.
func (b *Broker) ClearEphemeral() error {
	if b.cfg.EphemeralDir == "" {
		return nil
	}
	if err := os.RemoveAll(b.cfg.EphemeralDir); err != nil {
		return fmt.Errorf("remove ephemeral state: %w", err)
	}
	return nil
}
