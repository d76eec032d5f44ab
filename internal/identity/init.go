package identity

import (
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
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
// and that namespace not the host's. Two of them contradict each other. 0: none, as with --pid=host.
func (r *Resolver) findInit(s *Subject) (uint32, error) {
	dirs := r.cgroupDirs(s)
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		if init, err := r.firstOf(string(b)); err != nil || init != 0 {
			return init, err
		}
	}
	// It may have moved further down, as systemd does into init.scope. Whoever stays above must not pass for want of a
	// process to compare with.
	for _, dir := range dirs {
		pids, err := members(dir)
		if err != nil {
			return 0, err
		}
		if init, err := r.firstOf(pids); err != nil || init != 0 {
			return init, err
		}
	}
	return 0, nil
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

// firstOf picks the outermost process 1 among pids: one whose namespace holds those of all other candidates.
func (r *Resolver) firstOf(pids string) (uint32, error) {
	var candidates []uint32
	for f := range strings.FieldsSeq(pids) {
		n, err := strconv.ParseUint(f, 10, 32)
		if err != nil || !r.proc.firstInNamespace(uint32(n)) {
			continue
		}
		ns, err := r.proc.pidNamespace(uint32(n))
		if err == nil && ns != r.hostPidns {
			candidates = append(candidates, uint32(n))
		}
	}
	for _, c := range candidates {
		ns, err := r.proc.pidNamespace(c)
		if err != nil {
			continue
		}
		holdsAll := true
		for _, o := range candidates {
			holdsAll = holdsAll && r.proc.pidNamespaceWithin(o, ns)
		}
		if holdsAll {
			return c, nil
		}
	}
	if len(candidates) > 0 {
		// Fail closed: two unrelated first processes share the container's cgroup; one of them moved itself there.
		return 0, ErrForged
	}
	return 0, nil
}
