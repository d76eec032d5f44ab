package identity

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// entry is a process's directory in /proc, or a thread's. What is read through an open one is of that very process: once
// it has ended there is nothing to read, also when its number means another process by then.
type entry struct {
	fd   int // AT_FDCWD when it is not open: the number means what it means at each read
	path string
}

// entry names a process by its number alone.
func (p proc) entry(pid uint32) entry { return entry{unix.AT_FDCWD, p.path(pid)} }

// open takes hold of what a number means now.
func (p proc) open(pid uint32) (entry, error) {
	path := p.path(pid)
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return entry{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return entry{fd, path}, nil
}

func (e entry) close() { _ = unix.Close(e.fd) }

// name is what to call a file for a system call with e.fd.
func (e entry) name(file string) string {
	if e.fd != unix.AT_FDCWD {
		return file
	}
	return e.path + "/" + file
}

func (e entry) open(file string) (int, error) {
	fd, err := unix.Openat(e.fd, e.name(file), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: e.path + "/" + file, Err: err}
	}
	return fd, nil
}

// read reads a file that is small and never waits. Half of the time that os.ReadFile takes here goes into finding out
// that /proc has no sizes and nothing to poll.
func (e entry) read(file string) ([]byte, error) { return e.readUntil(file, false) }

// readRecord reads a file that the kernel writes in one go (stat, status, cgroup): what leaves room is all of it. The
// lines of others come as they fit.
func (e entry) readRecord(file string) ([]byte, error) { return e.readUntil(file, true) }

func (e entry) readUntil(file string, short bool) ([]byte, error) {
	fd, err := e.open(file)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: e.path + "/" + file, Err: err}
		case n == 0:
			return b, nil
		}
		b = b[:len(b)+n]
		switch {
		case len(b) == cap(b):
			b = slices.Grow(b, cap(b))
		case short:
			return b, nil
		}
	}
}

func (e entry) stat(file string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(e.fd, e.name(file), &st, 0)
	return st, err
}

func (e entry) cgroupText() (string, error) {
	b, err := e.readRecord("cgroup")
	if err != nil {
		return "", fmt.Errorf("read caller's cgroup: %w", err)
	}
	return string(b), nil
}

// table reads the roots of a device's mounts out of the written mount table.
func (e entry) table(dev uint64) ([]string, error) {
	b, err := e.read("mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read caller's mount table: %w", err)
	}
	return ParseRoots(string(b), int(unix.Major(dev)), int(unix.Minor(dev)))
}

func (e entry) pidNamespace() (uint64, error) {
	st, err := e.stat("ns/pid")
	if err != nil {
		return 0, fmt.Errorf("read pid namespace: %w", err)
	}
	return st.Ino, nil
}

func (e entry) exe() string {
	var b [unix.PathMax]byte
	n, err := unix.Readlinkat(e.fd, e.name("exe"), b[:])
	if err != nil {
		return ""
	}
	return string(b[:n])
}

// program is exe if it was found by the mount table with this number, the host's, else "": in a mount namespace of one's
// own, which any user can make, another file can have the path. The path itself is not looked at: it may lead to
// whoever hangs us.
func (e entry) program(exe string, hostMntns uint64) string {
	if st, err := e.stat("ns/mnt"); err != nil || st.Ino != hostMntns {
		return ""
	}
	return exe
}

// rootDir is what is known of a root directory; nothing when it cannot be looked at.
type rootDir unix.Statx_t

func (e entry) root() *rootDir { return rootOf(e.fd, e.name("root")) }

// rootOf looks at a root directory without a question to its file system: anybody may have chosen one that hangs, or
// ours, which would have to answer while it waits.
func rootOf(fd int, path string) *rootDir {
	var st unix.Statx_t
	if unix.Statx(fd, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_MNT_ID_UNIQUE, &st) != nil {
		st.Mask = 0
	}
	return (*rootDir)(&st)
}

// hostRoot reports whether the process's root directory is the host's: true for a container that is being set up and
// has not yet changed its root.
func (d *rootDir) hostRoot() bool {
	ours := rootOf(unix.AT_FDCWD, "/")
	return d.Mask&ours.Mask&unix.STATX_INO != 0 && d.Ino == ours.Ino && d.Dev_major == ours.Dev_major && d.Dev_minor == ours.Dev_minor
}
