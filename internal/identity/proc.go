package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// proc reads kernel facts below a /proc directory.
type proc struct{ dir string }

func (p proc) path(pid uint32, name string) string {
	return filepath.Join(p.dir, strconv.FormatUint(uint64(pid), 10), name)
}

func (p proc) cgroups(pid uint32) (map[string]string, error) {
	b, err := os.ReadFile(p.path(pid, "cgroup"))
	if err != nil {
		return nil, fmt.Errorf("read caller's cgroup: %w", err)
	}
	return ParseCgroup(string(b))
}

func (p proc) roots(pid uint32, major, minor int) ([]string, error) {
	f, err := os.Open(p.path(pid, "mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read caller's mount table: %w", err)
	}
	defer f.Close()
	return ParseRoots(f, major, minor)
}

func (p proc) pidNamespace(pid uint32) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(p.path(pid, "ns/pid"), &st); err != nil {
		return 0, fmt.Errorf("read pid namespace: %w", err)
	}
	return st.Ino, nil
}

func (p proc) exe(pid uint32) string {
	s, err := os.Readlink(p.path(pid, "exe"))
	if err != nil {
		return ""
	}
	return s
}

// firstInNamespace reports whether pid is process 1 of its pid namespace.
func (p proc) firstInNamespace(pid uint32) bool {
	b, err := os.ReadFile(p.path(pid, "status"))
	if err != nil {
		return false
	}
	return nsPid(string(b)) == "1"
}

// nsPid returns the innermost number of the NSpid line of /proc/<pid>/status.
func nsPid(status string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(v)
			if len(f) > 0 {
				return f[len(f)-1]
			}
		}
	}
	return ""
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
		parent, perr := unix.IoctlRetInt(fd, unix.NS_GET_PARENT)
		_ = unix.Close(fd)
		fd, err = parent, perr
	}
	return false
}

// hostRoot reports whether the process's root directory is the host's: true for a container that is being set up and
// has not yet changed its root.
func (p proc) hostRoot(pid uint32) bool {
	var theirs, ours unix.Stat_t
	if unix.Stat(p.path(pid, "root"), &theirs) != nil || unix.Stat("/", &ours) != nil {
		return false
	}
	return theirs.Dev == ours.Dev && theirs.Ino == ours.Ino
}

// MountNamespace returns the inode of a thread's mount namespace.
func MountNamespace(tid uint32) (uint64, error) {
	var st unix.Stat_t
	if tid == 0 {
		return 0, ErrNoCaller
	}
	if err := unix.Stat(proc{dir: "/proc"}.path(tid, "ns/mnt"), &st); err != nil {
		return 0, fmt.Errorf("read mount namespace: %w", err)
	}
	return st.Ino, nil
}
