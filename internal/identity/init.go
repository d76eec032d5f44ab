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

// findInit looks for the container's first process among the members of its cgroup: process 1 of its pid namespace,
// and that namespace not the host's. Two of them contradict each other. 0: none, as with --pid=host or with the pid
// namespace of another container.
func (r *Resolver) findInit(s *Subject) (uint32, error) {
	dirs := r.cgroupDirs(s)
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		if init, err := r.firstOf(pidsOf(string(b))); err != nil || init != 0 {
			return init, err
		}
	}
	// It may have moved further down, as systemd does into init.scope. Whoever stays above must not pass for want of a
	// process to compare with.
	var all []uint32
	for _, dir := range dirs {
		text, err := members(dir)
		if err != nil {
			return 0, err
		}
		pids := pidsOf(text)
		if init, err := r.firstOf(pids); err != nil || init != 0 {
			return init, err
		}
		all = append(all, pids...)
	}
	return 0, r.related(s, all)
}

// cgroupDirs lists the directories of the container's own cgroup, one for each hierarchy that names it.
func (r *Resolver) cgroupDirs(s *Subject) []string {
	var out []string
	seen := map[string]bool{}
	for _, path := range s.Cgroups {
		id, _, prefix := claim(path)
		if id != s.Container || seen[prefix] {
			continue
		}
		seen[prefix] = true
		for _, m := range r.cgroupMounts {
			out = append(out, filepath.Join(m, prefix))
		}
	}
	return out
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
		if b, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err == nil {
			pids.Write(b)
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
func (r *Resolver) firstOf(pids []uint32) (uint32, error) {
	var candidates []uint32
	for _, pid := range pids {
		p := r.proc.entry(pid)
		if !p.firstInNamespace() {
			continue
		}
		if ns, err := p.pidNamespace(); err == nil && ns != r.hostPidns {
			candidates = append(candidates, pid)
		}
	}
	if len(candidates) == 0 {
		return 0, nil
	}
	if first := r.outermost(candidates); first != 0 {
		return first, nil
	}
	// Fail closed: two unrelated first processes share the container's cgroup; one of them moved itself there.
	return 0, ErrForged
}

// outermost returns the one of pids whose namespace holds those of all others, 0 when there is none.
func (r *Resolver) outermost(pids []uint32) uint32 {
	for _, pid := range pids {
		ns, err := r.proc.entry(pid).pidNamespace()
		if err == nil && !slices.ContainsFunc(pids, func(o uint32) bool { return !r.proc.pidNamespaceWithin(o, ns) }) {
			return pid
		}
	}
	return 0
}

// related judges a container without a first process of its own: its processes are either the host's or in the pid
// namespace of some other container, all in the same one. Whoever moved there from elsewhere is not.
func (r *Resolver) related(s *Subject, pids []uint32) error {
	spaces := map[uint64]uint32{}
	for _, pid := range append(pids, s.PID) {
		if ns, err := r.proc.entry(pid).pidNamespace(); err == nil && ns != r.hostPidns {
			spaces[ns] = pid
		}
	}
	switch {
	case len(spaces) == 0:
		return nil
	case s.PidNamespace == r.hostPidns:
		return ErrMixed
	case len(spaces) > 1 && r.outermost(slices.Collect(maps.Values(spaces))) == 0:
		return ErrMixed
	}
	return nil
}
