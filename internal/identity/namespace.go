package identity

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// errNotInit: the process does not stand for a pid namespace.
var errNotInit = errors.New("not the first process of a pid namespace of its own")

// NamespaceOf returns the pid namespace whose first process is pid: what a runtime client needs to find a container
// that no cgroup names by Subject.PidNamespace. A container that shares the host's namespace, or another container's,
// has none of its own and is an error. The number is the namespace's only while that process lives: the kernel gives
// it to another one at once. So a client asks its runtime again afterwards whether pid still is that container's, and
// forgets the number when the container ends.
func (r *Resolver) NamespaceOf(pid uint32) (uint64, error) {
	ns, err := r.proc.pidNamespace(pid)
	if err != nil {
		return 0, fmt.Errorf("find pid namespace of process %d: %w", pid, err)
	}
	if ns == r.hostPidns || !r.proc.firstInNamespace(pid) {
		return 0, fmt.Errorf("find pid namespace of process %d: %w", pid, errNotInit)
	}
	return ns, nil
}

// NamespaceID is Subject.Container of a process in a pid namespace that no runtime named in a cgroup.
func NamespaceID(ns uint64) string { return fmt.Sprintf("pidns-%d", ns) }

// parentNamespace asks the kernel; it refuses for namespaces that are not below our own.
func parentNamespace(fd int) (int, error) { return unix.IoctlRetInt(fd, unix.NS_GET_PARENT) }

func (p proc) pidNamespace(pid uint32) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(p.path(pid, "ns/pid"), &st); err != nil {
		return 0, fmt.Errorf("read pid namespace: %w", err)
	}
	return st.Ino, nil
}

// firstInNamespace reports whether pid is process 1 of its pid namespace.
func (p proc) firstInNamespace(pid uint32) bool {
	b, err := p.read(pid, "status")
	if err != nil {
		return false
	}
	return nsPid(string(b)) == "1"
}

// nsPid returns the innermost number of the NSpid line of /proc/<pid>/status, "" when there is none.
func nsPid(status string) string {
	f := strings.Fields(statusField(status, "NSpid:"))
	if len(f) == 0 {
		return ""
	}
	return f[len(f)-1]
}

// pidNamespaceWithin reports whether pid's namespace is want or a descendant of it.
func (p proc) pidNamespaceWithin(pid uint32, want uint64) bool {
	const maxLevels = 33 // MAX_PID_NS_LEVEL is 32
	fd, err := unix.Open(p.path(pid, "ns/pid"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for range maxLevels {
		if err != nil {
			return false
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		if err == nil && st.Ino == want {
			_ = unix.Close(fd)
			return true
		}
		parent, perr := p.parent(fd)
		_ = unix.Close(fd)
		fd, err = parent, perr
	}
	return false
}
