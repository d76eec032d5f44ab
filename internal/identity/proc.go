package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// proc reads kernel facts below a /proc directory.
type proc struct {
	dir string
	// parent opens the pid namespace above the one that a descriptor is open on. It is parentNamespace, but for
	// fixtures, whose namespaces are files.
	parent func(fd int) (int, error)
}

// kernel is the /proc that the kernel mounts.
var kernel = proc{dir: "/proc", parent: parentNamespace}

func (p proc) path(pid uint32, name string) string {
	return filepath.Join(p.dir, strconv.FormatUint(uint64(pid), 10), name)
}

// read reads a file that is small and never waits. Half of the time that os.ReadFile takes here goes into finding out
// that /proc has no sizes and nothing to poll.
func (p proc) read(pid uint32, name string) ([]byte, error) {
	path := p.path(pid, name)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2048) // a status has about 1,400 bytes
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		}
		if b = b[:len(b)+n]; len(b) == cap(b) {
			b = slices.Grow(b, cap(b))
		}
	}
}

func (p proc) cgroups(pid uint32) (map[string]string, error) {
	b, err := p.read(pid, "cgroup")
	if err != nil {
		return nil, fmt.Errorf("read caller's cgroup: %w", err)
	}
	return ParseCgroup(string(b))
}

func (p proc) roots(pid uint32, major, minor int) ([]string, error) {
	b, err := p.read(pid, "mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read caller's mount table: %w", err)
	}
	return ParseRoots(string(b), major, minor)
}

func (p proc) exe(pid uint32) string {
	s, err := os.Readlink(p.path(pid, "exe"))
	if err != nil {
		return ""
	}
	return s
}

// program is exe if it was found by the host's mount table, which is the daemon's, else "": in a mount namespace of one's
// own, which any user can make, another file can have the path. The path itself is not looked at: it may lead to
// whoever hangs us.
func (p proc) program(pid uint32, exe string) string {
	var theirs, host unix.Stat_t
	if unix.Stat(p.path(pid, "ns/mnt"), &theirs) != nil || unix.Stat("/proc/self/ns/mnt", &host) != nil || theirs.Ino != host.Ino {
		return ""
	}
	return exe
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
	if err := unix.Stat(kernel.path(tid, "ns/mnt"), &st); err != nil {
		return 0, fmt.Errorf("read mount namespace: %w", err)
	}
	return st.Ino, nil
}
