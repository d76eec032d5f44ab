package identity

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mountIDs asks for a process's mount table by number, which takes a tenth of the time that the kernel needs to write
// the table out (mountinfo). The kernel gives a mount's unique id to no other one before the next boot, and a mount stays
// one of its device; so of which device a mount is needs to be asked once. All else is asked each time.
type mountIDs struct {
	mu      sync.Mutex
	devices map[uint64]uint64 // by unique mount id
}

// maxMountIDs bounds what is remembered; with more it begins anew.
const maxMountIDs = 1 << 14

// maxMounts is how many are listed at once. A process with more is left to mountinfo.
const maxMounts = 511

// errNoIDs: the kernel cannot tell a mount table by number, or not this one. mountinfo can.
var errNoIDs = errors.New("mounts cannot be listed")

// roots are the roots of the mounts of a device that the process can reach: what mountinfo says.
func (m *mountIDs) roots(e entry, root *rootDir, dev uint64) ([]string, error) {
	ns, err := e.mountNamespaceID()
	if err != nil {
		return nil, err
	}
	ids, err := root.mounts(ns)
	if err != nil {
		return nil, err
	}
	ours, err := m.of(ns, ids, dev)
	if err != nil {
		return nil, err
	}
	roots := make([]string, 0, len(ours))
	for _, id := range ours {
		st, err := statMount(ns, id)
		if errors.Is(err, unix.ENOENT) {
			continue // unmounted since
		}
		if err != nil {
			return nil, err
		}
		roots = append(roots, st.root)
	}
	return roots, nil
}

// of picks the mounts that are of a device.
func (m *mountIDs) of(ns uint64, ids []uint64, dev uint64) ([]uint64, error) {
	var ours, unknown []uint64
	m.mu.Lock()
	for _, id := range ids {
		switch got, ok := m.devices[id]; {
		case !ok:
			unknown = append(unknown, id)
		case got == dev:
			ours = append(ours, id)
		}
	}
	m.mu.Unlock()
	for _, id := range unknown {
		st, err := statMount(ns, id)
		if errors.Is(err, unix.ENOENT) {
			continue // unmounted since
		}
		if err != nil {
			return nil, err
		}
		m.learn(id, st.dev)
		if st.dev == dev {
			ours = append(ours, id)
		}
	}
	return ours, nil
}

func (m *mountIDs) learn(id, dev uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.devices == nil || len(m.devices) >= maxMountIDs {
		m.devices = map[uint64]uint64{}
	}
	m.devices[id] = dev
}

// mountNamespaceID is the number of the process's mount namespace that no other one gets, unlike its inode.
func (e entry) mountNamespaceID() (uint64, error) {
	fd, err := e.open("ns/mnt")
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errNoIDs, err)
	}
	defer unix.Close(fd)
	var id uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_MNTNS_ID, uintptr(unsafe.Pointer(&id))); errno != 0 {
		return 0, fmt.Errorf("%w: %w", errNoIDs, os.NewSyscallError("ioctl", errno))
	}
	return id, nil
}

// mounts lists a process's root mount and the mounts below it, which are those that mountinfo shows.
func (d *rootDir) mounts(ns uint64) ([]uint64, error) {
	if d.Mask&unix.STATX_MNT_ID_UNIQUE == 0 || d.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		// chroot(2) into a directory: of what lies below the mount the process reaches only a part.
		return nil, fmt.Errorf("%w: root is no mount", errNoIDs)
	}
	ids := make([]uint64, 1+maxMounts)
	ids[0] = d.Mnt_id
	n, err := listMounts(ns, d.Mnt_id, ids[1:])
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNoIDs, os.NewSyscallError("listmount", err))
	case n == maxMounts:
		return nil, fmt.Errorf("%w: too many", errNoIDs)
	}
	return ids[:1+n], nil
}

// mountRequest is struct mnt_id_req of linux/mount.h, as of Linux 6.11. Kernels before refuse another's namespace.
type mountRequest struct {
	size, _          uint32
	mount, parameter uint64
	namespace        uint64
}

// listMounts is listmount(2): all mounts below one, as far as there is room.
func listMounts(ns, below uint64, ids []uint64) (int, error) {
	q := mountRequest{mount: below, namespace: ns}
	q.size = uint32(unsafe.Sizeof(q))
	n, _, errno := unix.Syscall6(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&ids[0])), uintptr(len(ids)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// mountStatus is the beginning of struct statmount of linux/mount.h. Its text is at the end.
type mountStatus struct {
	size, _      uint32
	mask         uint64
	major, minor uint32
	_            [10]uint64
	root         uint32 // where in the text
	_            uint32
	_            [50]uint64
	text         [unix.PathMax]byte
}

const (
	statMountDevice = 0x1 // STATMOUNT_SB_BASIC
	statMountRoot   = 0x8 // STATMOUNT_MNT_ROOT
)

type mountFacts struct {
	dev  uint64
	root string // as mountinfo has it, without its escapes
}

// statMount is statmount(2), of which device a mount is and where in that its root.
func statMount(ns, id uint64) (mountFacts, error) {
	q := mountRequest{mount: id, parameter: statMountDevice | statMountRoot, namespace: ns}
	q.size = uint32(unsafe.Sizeof(q))
	var st mountStatus
	_, _, errno := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&st)), unsafe.Sizeof(st), 0, 0, 0)
	if errno != 0 {
		return mountFacts{}, fmt.Errorf("%w: %w", errNoIDs, os.NewSyscallError("statmount", errno))
	}
	if st.mask&q.parameter != q.parameter || int(st.root) >= len(st.text) {
		return mountFacts{}, fmt.Errorf("%w: statmount does not say all", errNoIDs)
	}
	root, _, ended := bytes.Cut(st.text[st.root:], []byte{0})
	if !ended {
		return mountFacts{}, fmt.Errorf("%w: statmount does not end its text", errNoIDs)
	}
	return mountFacts{unix.Mkdev(st.major, st.minor), string(root)}, nil
}
