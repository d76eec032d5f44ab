package identity

import (
	"fmt"
	iofs "io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// cgroupMounts lists the mount points of cgroup hierarchies.
func cgroupMounts(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	defer f.Close()
	infos, err := mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("find cgroup mounts: %w", err)
	}
	var out []string
	for _, i := range infos {
		if i.Root == "/" {
			out = append(out, i.Mountpoint)
		}
	}
	return out, nil
}

// maxCgroups bounds how many cgroups below a container's own are looked through for its first process.
const maxCgroups = 1024

// candidate is what may be a container's first process: process 1 of a pid namespace, the zero value for none.
type candidate struct {
	pid uint32
	ns  uint64
	// held keeps the process's entry open; nil: it is read by its number.
	held *os.File
}

// entry is only good while c is kept alive.
func (c candidate) entry(p proc) entry {
	if c.held == nil {
		return p.entry(c.pid)
	}
	return entry{int(c.held.Fd()), c.held.Name()}
}

// findInit looks for the container's first process among the members of its cgroup: process 1 of its pid namespace,
// and that namespace not the host's. Two of them contradict each other. None: as with --pid=host or with the pid
// namespace of another container.
func (r *Resolver) findInit(s *Subject) (candidate, error) {
	if c, ok := r.firsts.recall(r.proc, s.cgroupText); ok {
		return c, nil
	}
	dirs := r.cgroupDirs(s.prefixes())
	if c, err := r.search(s, dirs); err != nil || c.pid != 0 {
		return c, err
	}
	// It may have moved further down, as systemd does into init.scope. Whoever stays above must not pass for want of a
	// process to compare with.
	var all []uint32
	for _, dir := range dirs {
		text, err := members(dir)
		if err != nil {
			return candidate{}, err
		}
		pids := pidsOf(text)
		if c, err := r.firstOf(pids); err != nil || c.pid != 0 {
			return c, err
		}
		all = append(all, pids...)
	}
	return candidate{}, r.related(s, all)
}

// search looks through the members of the container's own cgroup in all hierarchies: who is in one alone must not pass
// for the first process of those in the others.
func (r *Resolver) search(s *Subject, dirs []string) (candidate, error) {
	lists, in := map[string]string{}, map[uint32]string{}
	for _, dir := range dirs {
		list, err := readMembers(dir)
		if err != nil {
			continue // not in this hierarchy
		}
		lists[dir] = list
		for _, pid := range pidsOf(list) {
			in[pid] = dir
		}
	}
	c, err := r.firstOf(slices.Sorted(maps.Keys(in)))
	switch {
	case err != nil:
		r.firsts.forget()
	case c.pid != 0:
		dir := in[c.pid]
		r.firsts.keep(r.proc, s.cgroupText, found{candidate: c, dir: dir, list: lists[dir]})
	}
	return c, err
}

// prefixes lists the paths of the container's own cgroup, of which there is one unless hierarchies differ in theirs.
func (s *Subject) prefixes() []string {
	var out []string
	for _, path := range s.Cgroups {
		if id, _, prefix := claim(path); id == s.Container && !slices.Contains(out, prefix) {
			out = append(out, prefix)
		}
	}
	slices.Sort(out)
	return out
}

// cgroupDirs lists where those can be in the hierarchies.
func (r *Resolver) cgroupDirs(prefixes []string) []string {
	var out []string
	for _, prefix := range prefixes {
		for _, m := range r.cgroupMounts {
			out = append(out, filepath.Join(m, prefix))
		}
	}
	return out
}

func readMembers(dir string) (string, error) {
	b, err := entry{unix.AT_FDCWD, dir}.read("cgroup.procs")
	return string(b), err
}

// members lists the processes of all cgroups below dir.
func members(dir string) (string, error) {
	var pids strings.Builder
	n := 0
	err := filepath.WalkDir(dir, func(path string, d iofs.DirEntry, err error) error {
		if err != nil {
			return nil // gone since, or not in this hierarchy
		}
		if !d.IsDir() {
			return nil
		}
		if n++; n > maxCgroups {
			return fmt.Errorf("%w: container has more than %d cgroups", ErrDenied, maxCgroups) // Fail closed
		}
		if list, err := readMembers(path); err == nil {
			pids.WriteString(list)
		}
		return nil
	})
	return pids.String(), err
}

// pidsOf reads a cgroup.procs.
func pidsOf(text string) []uint32 {
	var out []uint32
	for f := range strings.FieldsSeq(text) {
		if n, err := strconv.ParseUint(f, 10, 32); err == nil && n != 0 { // 0: a process outside of our pid namespace
			out = append(out, uint32(n))
		}
	}
	return out
}

// firstOf picks the outermost process 1 among pids: one whose namespace holds those of all other candidates.
func (r *Resolver) firstOf(pids []uint32) (candidate, error) {
	var candidates []candidate
	for _, pid := range pids {
		p := r.proc.entry(pid)
		ns, err := p.pidNamespace()
		if err != nil || ns == r.hostPidns || slices.ContainsFunc(candidates, func(c candidate) bool { return c.ns == ns }) {
			continue // a namespace has one process 1
		}
		if p.firstInNamespace() {
			candidates = append(candidates, candidate{pid: pid, ns: ns})
		}
	}
	if len(candidates) == 0 {
		return candidate{}, nil
	}
	if first := r.outermost(candidates); first.pid != 0 {
		return first, nil
	}
	// Fail closed: two unrelated first processes share the container's cgroup; one of them moved itself there.
	return candidate{}, ErrForged
}

// outermost returns the one whose namespace holds those of all others, the zero value when there is none.
func (r *Resolver) outermost(cs []candidate) candidate {
	for _, c := range cs {
		if !slices.ContainsFunc(cs, func(o candidate) bool { return o != c && !r.proc.pidNamespaceWithin(o.pid, c.ns) }) {
			return c
		}
	}
	return candidate{}
}

// related judges a container without a first process of its own: its processes are either the host's or in the pid
// namespace of some other container, all in the same one. Whoever moved there from elsewhere is not.
func (r *Resolver) related(s *Subject, pids []uint32) error {
	spaces := map[uint64]candidate{}
	for _, pid := range append(pids, s.PID) {
		if ns, err := r.proc.entry(pid).pidNamespace(); err == nil && ns != r.hostPidns {
			spaces[ns] = candidate{pid: pid, ns: ns}
		}
	}
	switch {
	case len(spaces) == 0:
		return nil
	case s.PidNamespace == r.hostPidns:
		return ErrMixed
	case len(spaces) > 1 && r.outermost(slices.Collect(maps.Values(spaces))).pid == 0:
		return ErrMixed
	}
	return nil
}
