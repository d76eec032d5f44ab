package fs

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// nameless is the file itself, by an O_PATH descriptor, once it has no name. Who resolved its name before it went, is in
// it, or has it open, goes on with it as on any file system.
type nameless struct{ file atomic.Pointer[os.File] }

var errNotPinned = errors.New("the file is not pinned")

// set takes ownership of fd and reports whether there was none.
func (l *nameless) set(fd int) bool {
	f := os.NewFile(uintptr(fd), "nameless")
	if l.file.CompareAndSwap(nil, f) {
		return true
	}
	_ = f.Close()
	return false
}

// drop closes it as soon as nobody uses it.
func (l *nameless) drop() {
	if f := l.file.Swap(nil); f != nil {
		_ = f.Close()
	}
}

// with runs do with the descriptor, or returns errNotPinned.
func (l *nameless) with(do func(fd int) error) error {
	f := l.file.Load()
	if f == nil {
		return errNotPinned
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return errNotPinned
	}
	if cerr := raw.Control(func(fd uintptr) { err = do(int(fd)) }); cerr != nil {
		return errNotPinned // dropped meanwhile
	}
	return err
}

// pin holds a child of the directory that is about to lose its name. unpin takes that back; it is nil when the child was
// held already, or cannot be.
func (n *stateNode) pin(name string, child *stateNode) (unpin func()) {
	fd := -1
	e := n.inside(func(dir int) (err error) {
		fd, err = openBeneath(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		return err
	})
	if e != 0 {
		return nil
	}
	if !child.isOpenOn(fd) {
		_ = unix.Close(fd)
		return nil
	}
	if !child.nameless.set(fd) {
		return nil
	}
	return child.nameless.drop
}

// isOpenOn reports whether a descriptor is open on the node's own file. A name may have another one by now, which
// somebody put there on the host.
func (n *stateNode) isOpenOn(fd int) bool {
	var id fusefs.StableAttr
	return describe(fd, &id, &fuse.Attr{}) == nil && id == n.StableAttr()
}

// openNode opens the node's own file: as it was pinned, or else by its path. Nothing moves meanwhile.
func (n *stateNode) openNode(flags int) (fd int, err error) {
	err = n.nameless.with(func(file int) (err error) {
		fd, err = reopen(file, flags)
		return err
	})
	if !errors.Is(err, errNotPinned) {
		return fd, err
	}
	fd, err = n.openPath(flags)
	if err == nil && !n.isTop() && !n.isOpenOn(fd) {
		_ = unix.Close(fd)
		return -1, unix.ENOENT
	}
	return fd, err
}

// openSelf is openNode for a request on the node itself. Only a request on a directory's name may end with ENOENT.
func (n *stateNode) openSelf(flags int) (int, error) {
	fd, err := n.openNode(flags)
	if errors.Is(err, unix.ENOENT) {
		return -1, unix.ESTALE
	}
	return fd, err
}

func (n *stateNode) openPath(flags int) (int, error) {
	if n.isTop() {
		return n.tree.open("", flags, 0) // it does not move; and a lookup in it may hold the lock already
	}
	n.tree.moves.RLock()
	defer n.tree.moves.RUnlock()
	return n.tree.open(n.rel(), flags, 0)
}

// isTop reports whether the node is its tree's top directory, which is held for good.
func (n *stateNode) isTop() bool { return n == &n.tree.stateNode }

// reopen opens the file behind an O_PATH descriptor. A symlink cannot be opened, and is only ever asked for by O_PATH.
func reopen(fd, flags int) (int, error) {
	if flags&unix.O_PATH != 0 {
		return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	return unix.Open(procPath(fd), flags&^unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// stale is what the kernel is told of a node that has no name and was not pinned: it then looks the name up again,
// which may have another file by now.
func stale(e syscall.Errno) syscall.Errno {
	if e == syscall.ENOENT {
		return syscall.ESTALE
	}
	return e
}
