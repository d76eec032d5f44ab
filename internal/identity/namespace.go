package identity

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// NamespaceID is Subject.Container of a process in a pid namespace that no runtime named in a cgroup.
func NamespaceID(ns uint64) string { return fmt.Sprintf("pidns-%d", ns) }

// parentNamespace asks the kernel; it refuses for namespaces that are not below our own.
func parentNamespace(fd int) (int, error) { return unix.IoctlRetInt(fd, unix.NS_GET_PARENT) }

// firstInNamespace reports whether it is process 1 of its pid namespace.
func (e entry) firstInNamespace() bool {
	b, err := e.readRecord("status")
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
	fd, err := p.entry(pid).open("ns/pid")
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
