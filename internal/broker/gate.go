package broker

import (
	"context"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/sentinel"
	"github.com/claudefs/claudefs/policy"
)

// useFor is how long a yes for a mount namespace and tree is used again. Each operation on a state file asks.
const useFor = time.Second

type useKey struct {
	mountNamespace uint64
	tree           string
	uid            uint32
}

// errHidden: the tree is not there for this caller. It wraps fs.ErrNotExist.
var errHidden = sentinel.New("no such tree", iofs.ErrNotExist)

// Enter implements fs.Gate, from kernel facts alone. Runtimes and their helpers, which resolve the source of a bind
// mount, may pass; they read nothing, because Use and Open judge by more.
func (b *Broker) Enter(ctx context.Context, c identity.Caller, name string) error {
	if !b.policy.Load().Visible(name) {
		return errHidden
	}
	s, err := b.cfg.Attestor.Resolve(ctx, c)
	if err == nil {
		err = b.mayEnter(c, s, name)
	}
	if err != nil {
		b.turnedAway(c, s, name, err)
		return errHidden
	}
	return nil
}

// mayEnter says why a caller may not pass through a tree's name, nil when it may.
func (b *Broker) mayEnter(c identity.Caller, s *identity.Subject, name string) error {
	switch {
	case !s.Host && s.Holds(name) == nil:
		return nil
	case isRuntime(c) && (s.Host || s.HostRoot):
		return nil // a runtime, or a container that it is setting up: still in the host's root directory
	case s.Host && b.policy.Load().HostMay(name, c.UID):
		return nil
	case s.Host:
		// Fail closed: whoever passes here could bind the tree into namespaces of its own and then hold it.
		return errNoRule
	}
	return s.Holds(name)
}

// isRuntime reports whether a caller has the uid of runtimes: root, or the daemon's own.
func isRuntime(c identity.Caller) bool { return c.UID == 0 || int(c.UID) == os.Geteuid() }

// errNoRule: a process in no container is named by no rule.
var errNoRule = fmt.Errorf("%w: no rule names this host process", policy.ErrDenied)

// Use implements fs.Gate: who may touch the tree's state files. It is Enter without those who only pass.
func (b *Broker) Use(ctx context.Context, c identity.Caller, name string) error {
	ns, err := identity.MountNamespace(c.TID)
	if err != nil {
		return fmt.Errorf("%w: %w", policy.ErrDenied, err)
	}
	k, now := useKey{ns, name, c.UID}, time.Now()
	b.mu.Lock()
	until := b.uses[k]
	b.mu.Unlock()
	if now.Before(until) {
		return nil
	}
	s, err := b.cfg.Attestor.Resolve(ctx, c)
	if err == nil {
		err = b.mayUse(c, s, name)
	}
	if err != nil {
		b.turnedAway(c, s, name, err)
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.uses) > 4096 {
		clear(b.uses)
	}
	b.uses[k] = now.Add(useFor)
	return nil
}

// mayUse says why a caller may not touch a tree's state files, nil when it may.
func (b *Broker) mayUse(c identity.Caller, s *identity.Subject, name string) error {
	if s.Host {
		if !isRuntime(c) && !b.policy.Load().HostMay(name, c.UID) {
			return errNoRule
		}
		return nil
	}
	if err := s.Holds(name); err != nil {
		return err
	}
	t := b.tree(name)
	if reason := t.foreign(s, b.cfg.Attestor); reason != "" {
		return fmt.Errorf("%w: %s", policy.ErrDenied, reason)
	}
	return b.occupy(t, s)
}

// List implements fs.Gate: the trees that the caller's own mount table holds; on the host, those that exist.
func (b *Broker) List(ctx context.Context, c identity.Caller) []string {
	s, err := b.cfg.Attestor.Resolve(ctx, c)
	if err != nil {
		return nil
	}
	var names []string
	if !s.Host {
		for _, r := range s.Roots {
			name, _, _ := strings.Cut(strings.TrimPrefix(r, "/"), "/")
			names = append(names, name)
		}
	} else {
		names = b.Trees()
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" || !b.policy.Load().Visible(n) || b.mayEnter(c, s, n) != nil })
	slices.Sort(names)
	return slices.Compact(names)
}

// Trees lists the trees that have state, by name.
func (b *Broker) Trees() []string {
	var out []string
	for _, dir := range []string{filepath.Join(b.cfg.StateDir, "trees"), b.cfg.EphemeralDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() && policy.ValidTree(e.Name()) {
				out = append(out, e.Name())
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// StateDir implements fs.Gate. The tree's directory is open to any uid: whoever the gate lets in is in a container
// that was given this tree, whatever uid it runs as; the directories above are the daemon's alone.
func (b *Broker) StateDir(name string) (string, error) {
	t := b.tree(name)
	defer b.save(t)
	dir := filepath.Join(b.root(t), name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	err := os.Mkdir(dir, 0o777)
	if err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	if b.placed(t) == placePersistent {
		return dir, b.seed(name)
	}
	if err == nil { // just made
		return dir, plant(dir)
	}
	return dir, nil
}

// seedText spares the first start of a client its questions; the client replaces the file when it runs.
const seedText = `{"hasCompletedOnboarding":true}` + "\n"

// seedPath marks that a tree was set up; its time is the tree's birth.
func (b *Broker) seedPath(name string) string {
	return filepath.Join(b.cfg.StateDir, "seeded", name)
}

// seed writes the tree's first .claude.json, once.
func (b *Broker) seed(name string) error {
	if _, err := os.Lstat(b.seedPath(name)); err == nil {
		return nil
	}
	if err := plant(filepath.Join(b.cfg.StateDir, "trees", name)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.seedPath(name)), 0o700); err != nil {
		return fmt.Errorf("seed tree %s: %w", name, err)
	}
	if err := os.WriteFile(b.seedPath(name), nil, 0o600); err != nil {
		return fmt.Errorf("seed tree %s: %w", name, err)
	}
	return nil
}

// plant writes a tree's first .claude.json, unless there is one.
func plant(dir string) error {
	file := filepath.Join(dir, ".claude.json")
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		return nil
	}
	// Readable and writable for whichever uid the container runs as; the client's own rewrite is 0600.
	if err := os.WriteFile(file, []byte(seedText), 0o666); err != nil {
		return fmt.Errorf("seed tree: %w", err)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		return fmt.Errorf("seed tree: %w", err)
	}
	return nil
}
