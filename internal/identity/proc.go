package identity

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// proc reads kernel facts below a /proc directory.
type proc struct {
	dir string
	// parent opens the pid namespace above the one that a descriptor is open on. It is parentNamespace, but for
	// fixtures, whose namespaces are files.
	parent func(fd int) (int, error)
	// owner asks whose the user namespace is that a descriptor is open on: namespaceOwner, but for fixtures.
	owner func(fd int) (uint32, error)
	// group asks whose thread a thread is. It is groupOf, but for fixtures, which have none and are read.
	group func(tid uint32) (uint32, error)
}

// kernel is the /proc that the kernel mounts.
var kernel = proc{dir: "/proc", parent: parentNamespace, owner: namespaceOwner, group: groupOf}

func (p proc) path(pid uint32) string {
	return filepath.Join(p.dir, strconv.FormatUint(uint64(pid), 10))
}

// MountNamespace returns the inode of a thread's mount namespace.
func MountNamespace(tid uint32) (uint64, error) {
	if tid == 0 {
		return 0, ErrNoCaller
	}
	st, err := kernel.entry(tid).stat("ns/mnt")
	if err != nil {
		return 0, fmt.Errorf("read mount namespace: %w", err)
	}
	return st.Ino, nil
}
