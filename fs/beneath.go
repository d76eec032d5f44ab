package fs

import (
	"errors"
	"strconv"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
)

// confined is how every path below a tree is resolved: from the tree's own directory, never upwards, never through a
// symlink, never onto another file system. The kernel resolved the caller's symlinks before it asked us; one that
// appears now was put there meanwhile, to lead us somewhere else on the host.
const confined = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// resolveTries bounds how often a resolution is repeated that a concurrent rename disturbed (EAGAIN).
const resolveTries = 64

// open resolves rel below the tree's directory.
func (t *treeNode) open(rel string, flags int, mode uint32) (fd int, err error) {
	return openBeneath(t.dir, rel, flags, mode)
}

func openBeneath(dir int, rel string, flags int, mode uint32) (fd int, err error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: confined}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode)
	}
	if rel == "" {
		rel = "."
	}
	for range resolveTries {
		fd, err = unix.Openat2(dir, rel, &how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EBUSY
}

// rel is the node's path below the tree's directory, "" for the tree itself.
func (n *stateNode) rel() string { return n.Path(n.tree.EmbeddedInode()) }

// here runs do with a descriptor of the node itself, symlink or not.
func (n *stateNode) here(do func(fd int) error) syscall.Errno {
	return stale(n.at(unix.O_PATH|unix.O_NOFOLLOW, do))
}

// inside runs do with a descriptor of the directory n.
func (n *stateNode) inside(do func(dir int) error) syscall.Errno {
	return n.at(unix.O_PATH|unix.O_DIRECTORY, do)
}

func (n *stateNode) at(flags int, do func(fd int) error) syscall.Errno {
	fd, err := n.openNode(flags)
	if err != nil {
		return fusefs.ToErrno(err)
	}
	defer unix.Close(fd)
	return fusefs.ToErrno(do(fd))
}

// procPath names an open descriptor for the calls that take paths only; the kernel follows it to that very inode.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
