package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
)

// Resolver attests callers of one mount.
type Resolver struct {
	proc         proc
	dev          atomic.Uint64 // st_dev of our mount, 0 before it is mounted
	hostPidns    uint64
	hostMntns    uint64
	cgroupMounts []string
	mounts       mountIDs
	firsts       firsts
}

// NewResolver makes a resolver; SetDevice has to follow. It must run in the host's pid namespace: everything that is
// in the same one counts as the host.
func NewResolver() (*Resolver, error) {
	self := uint32(os.Getpid())
	pidns, err := kernel.entry(self).pidNamespace()
	if err != nil {
		return nil, err
	}
	mntns, err := MountNamespace(self)
	if err != nil {
		return nil, err
	}
	mounts, err := cgroupMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return &Resolver{proc: kernel, hostPidns: pidns, hostMntns: mntns, cgroupMounts: mounts}, nil
}

// SetDevice says which device is our mount (st_dev of its root). Until then no caller holds any tree.
func (r *Resolver) SetDevice(dev uint64) { r.dev.Store(dev) }

// Resolve attests a caller from kernel facts: who it is, and which trees its mount table holds. It asks no runtime
// and takes a tenth of a millisecond. With a refusal that the facts themselves make, the subject comes for the record.
func (r *Resolver) Resolve(_ context.Context, c Caller) (*Subject, error) {
	if c.TID == 0 {
		// Fail closed: the kernel could not name the caller to us.
		return nil, ErrNoCaller
	}
	e, err := r.proc.open(c.TID)
	if err != nil {
		return nil, ended(err)
	}
	defer e.close()
	before, err := r.proc.thread(c.TID, e)
	if err != nil {
		return nil, err
	}
	root := e.root()
	s, err := r.read(c, e)
	if err != nil {
		return nil, ended(err)
	}
	s.Process, s.HostRoot = before.group, root.hostRoot()
	if err := r.name(s); err != nil {
		return s, err
	}
	if s.Host {
		s.Program = sync.OnceValue(func() string { return r.program(s, before) })
	} else if err := r.look(s, e, root); err != nil {
		return nil, ended(err)
	}
	// Some facts came by a number. They are the caller's only if it has meant the caller all the time.
	return s, before.unchanged(e)
}

// read collects the caller's own facts.
func (r *Resolver) read(c Caller, e entry) (*Subject, error) {
	s := &Subject{Caller: c, Exe: e.exe()}
	var err error
	if s.cgroupText, err = e.cgroupText(); err != nil {
		return nil, err
	}
	if s.Cgroups, err = ParseCgroup(s.cgroupText); err != nil {
		return nil, err
	}
	if s.PidNamespace, err = e.pidNamespace(); err != nil {
		return nil, err
	}
	return s, nil
}

// look reads which trees a container's mount namespace holds.
func (r *Resolver) look(s *Subject, e entry, root *rootDir) (err error) {
	dev := r.dev.Load()
	if s.Roots, err = r.mounts.roots(e, root, dev); errors.Is(err, errNoIDs) {
		s.Roots, err = e.table(dev)
	}
	return err
}

// program is whether the path of a host process's program is what it says.
func (r *Resolver) program(s *Subject, was thread) string {
	e, err := r.proc.open(s.Caller.TID)
	if err != nil {
		return "" // Fail closed: no program is none that a rule names
	}
	defer e.close()
	program := e.program(s.Exe, r.hostMntns)
	if was.unchanged(e) != nil {
		return "" // Fail closed: the number means another caller by now
	}
	return program
}

// name says what the subject is from its facts: a host process, a container's, or one in a pid namespace of its own.
func (r *Resolver) name(s *Subject) (err error) {
	if s.Container, s.Runtime, err = Container(s.Cgroups); err != nil {
		return err
	}
	switch {
	case s.Container == "" && s.PidNamespace == r.hostPidns:
		s.Host = true
		return nil
	case s.Container == "":
		// No runtime named it in a cgroup (rootless podman on cgroup v1, bubblewrap, unshare): its pid namespace is
		// its identity, and its mount table still has to hold the tree.
		s.Container, s.Runtime = NamespaceID(s.PidNamespace), "namespace"
		return nil
	}
	if s.Pod, err = Pod(s.Cgroups); err != nil {
		return err
	}
	return r.confirm(s)
}

// confirm checks the cgroup's claim against the container's first process, found through the kernel.
func (r *Resolver) confirm(s *Subject) error {
	first, err := r.findInit(s)
	if err != nil {
		return err
	}
	if first.pid == 0 {
		return nil // no first process to compare with: with the host's pid namespace, ConfirmInit decides
	}
	if err := r.inside(s, first); err != nil {
		return err
	}
	s.first = first.pid
	return nil
}

// ConfirmInit checks that the subject is inside the container whose first process is init: its cgroup at or below
// init's in every hierarchy, its pid namespace init's or one below it. A runtime names init; so can the kernel.
func (r *Resolver) ConfirmInit(s *Subject, init uint32) error {
	if init != 0 && init == s.first {
		return nil // as Resolve found, in the same request
	}
	ns, err := r.proc.entry(init).pidNamespace()
	if err != nil {
		return fmt.Errorf("%w: container's first process: %w", ErrDenied, err)
	}
	return r.inside(s, candidate{pid: init, ns: ns})
}

func (r *Resolver) inside(s *Subject, first candidate) error {
	text, err := first.entry(r.proc).cgroupText()
	runtime.KeepAlive(first.held)
	if err == nil && text != s.cgroupText { // else it is inside
		var paths map[string]string
		if paths, err = ParseCgroup(text); err == nil && !Within(s.Cgroups, paths, s.Container) {
			return ErrCgroup
		}
	}
	if err != nil {
		return fmt.Errorf("%w: container's first process: %w", ErrDenied, err)
	}
	if s.PidNamespace != first.ns && !r.proc.pidNamespaceWithin(s.Caller.TID, first.ns) {
		return ErrForged
	}
	return nil
}

// Holds reports whether the subject's own mount table holds the tree: ErrNotMounted or ErrWholeMount if not.
func (s *Subject) Holds(tree string) error { return checkRoots(s.Roots, tree) }
