package fs

import (
	"context"
	"errors"
	"path"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/serve"
)

// stateTimeout is how long the kernel may use a state file's name and attributes: with 0 a directory walk takes ten
// times as long.
const stateTimeout = time.Second

// stateNode is a file or directory below a tree's state directory. Each operation runs as the caller, and resolves
// its path confined to the tree (beneath.go); go-fuse's own loopback follows symlinks that appear meanwhile.
type stateNode struct {
	fusefs.Inode
	tree *treeNode

	nameless nameless
	shownAs  atomic.Pointer[string] // the name of SettingsFiles that it has or had

	mu        sync.Mutex
	handles   []*stateHandle // what a deleted file is still reached by
	readers   int            // handles on what is shown of a settings file
	forgotten bool           // the kernel does not know it any more
}

var (
	_ fusefs.NodeLookuper       = (*stateNode)(nil)
	_ fusefs.NodeCreater        = (*stateNode)(nil)
	_ fusefs.NodeOpener         = (*stateNode)(nil)
	_ fusefs.NodeOpendirHandler = (*stateNode)(nil)
	_ fusefs.NodeTmpfiler       = (*stateNode)(nil)
	_ fusefs.NodeMkdirer        = (*stateNode)(nil)
	_ fusefs.NodeMknoder        = (*stateNode)(nil)
	_ fusefs.NodeSymlinker      = (*stateNode)(nil)
	_ fusefs.NodeLinker         = (*stateNode)(nil)
	_ fusefs.NodeRenamer        = (*stateNode)(nil)
	_ fusefs.NodeUnlinker       = (*stateNode)(nil)
	_ fusefs.NodeRmdirer        = (*stateNode)(nil)
)

// asCaller asks the gate and runs do as the caller.
func (t *treeNode) asCaller(ctx context.Context, do func() syscall.Errno) syscall.Errno {
	if serve.Reviving(ctx) != nil {
		return asCaller(ctx, do)
	}
	if err := t.cfg.Gate.Use(ctx, callerOf(ctx), t.name); err != nil {
		return errno(err)
	}
	return asCaller(ctx, do)
}

// Lookup implements fs.NodeLookuper.
func (n *stateNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.enter(ctx, out, func(id *fusefs.StableAttr) syscall.Errno {
		return n.tree.still(ctx, n.tree.moves.RLocker(), func() syscall.Errno {
			return fusefs.ToErrno(describeAt(n.tree.dir, path.Join(n.rel(), name), id, &out.Attr))
		})
	})
}

// made enters what do makes in the directory. Nothing that may fail comes in between but the look at it.
func (n *stateNode) made(ctx context.Context, name string, out *fuse.EntryOut, do func(dir int) error) (*fusefs.Inode, syscall.Errno) {
	return n.enter(ctx, out, func(id *fusefs.StableAttr) syscall.Errno {
		return n.inside(func(dir int) error {
			if err := do(dir); err != nil {
				return err
			}
			return describeAt(dir, name, id, &out.Attr)
		})
	})
}

// enter lets the kernel cache an entry that describe has described, as the caller.
func (n *stateNode) enter(ctx context.Context, out *fuse.EntryOut, describe func(*fusefs.StableAttr) syscall.Errno) (*fusefs.Inode, syscall.Errno) {
	var id fusefs.StableAttr
	if e := n.tree.asCaller(ctx, func() syscall.Errno { return describe(&id) }); e != 0 {
		return nil, e
	}
	out.SetEntryTimeout(stateTimeout)
	out.SetAttrTimeout(stateTimeout)
	return n.NewInode(ctx, &stateNode{tree: n.tree}, id), 0
}

// Mkdir implements fs.NodeMkdirer.
func (n *stateNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.made(ctx, name, out, func(dir int) error { return unix.Mkdirat(dir, name, mode) })
}

// Mknod implements fs.NodeMknoder: regular files, FIFOs and sockets; no devices.
func (n *stateNode) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if t := mode & syscall.S_IFMT; t == syscall.S_IFBLK || t == syscall.S_IFCHR {
		return nil, syscall.EPERM
	}
	return n.made(ctx, name, out, func(dir int) error { return unix.Mknodat(dir, name, mode, 0) })
}

// Symlink implements fs.NodeSymlinker.
func (n *stateNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.made(ctx, name, out, func(dir int) error { return unix.Symlinkat(target, dir, name) })
}

// Link implements fs.NodeLinker.
func (n *stateNode) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	s, ok := target.(*stateNode)
	if !ok || s.tree != n.tree {
		return nil, syscall.EXDEV
	}
	from, parent := s.Parent()
	dir, ok := stateDirOf(parent)
	if !ok {
		return nil, syscall.EXDEV // an O_TMPFILE or deleted file has no name to link from
	}
	return n.made(ctx, name, out, func(to int) error {
		return errorOf(dir.inside(func(fd int) error { return unix.Linkat(fd, from, to, name, 0) }))
	})
}

// stateDirOf is the state directory of an inode.
func stateDirOf(i *fusefs.Inode) (*stateNode, bool) {
	if i == nil {
		return nil, false
	}
	switch d := i.Operations().(type) {
	case *treeNode:
		return &d.stateNode, true
	case *stateNode:
		return d, true
	}
	return nil, false
}

// errorOf is the error of an errno, nil for 0.
func errorOf(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// Create implements fs.NodeCreater.
func (n *stateNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	return n.makeFile(ctx, out, func(dir int) (int, error) {
		return unix.Openat(dir, name, fileFlags(flags)|unix.O_CREAT|unix.O_NOFOLLOW, mode)
	})
}

// Tmpfile implements fs.NodeTmpfiler.
func (n *stateNode) Tmpfile(ctx context.Context, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	ch, fh, ff, e := n.makeFile(ctx, out, func(dir int) (int, error) {
		return unix.Openat(dir, ".", fileFlags(flags)|unix.O_TMPFILE, mode)
	})
	if h, ok := fh.(*stateHandle); ok {
		h.node.preserve(ifOpen)
	}
	return ch, fh, ff, e
}

func (n *stateNode) makeFile(ctx context.Context, out *fuse.EntryOut, open func(dir int) (int, error)) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	var fd int
	var id fusefs.StableAttr
	e := n.tree.asCaller(ctx, func() syscall.Errno {
		return n.inside(func(dir int) (err error) {
			if fd, err = open(dir); err != nil {
				return err
			}
			if err = describe(fd, &id, &out.Attr); err != nil {
				_ = unix.Close(fd)
			}
			return err
		})
	})
	if e != 0 {
		return nil, nil, 0, e
	}
	out.SetEntryTimeout(stateTimeout)
	out.SetAttrTimeout(stateTimeout)
	ch := n.NewInode(ctx, &stateNode{tree: n.tree}, id)
	made, ok := ch.Operations().(*stateNode) // the inode may have been known
	if !ok {
		_ = unix.Close(fd)
		return nil, nil, 0, syscall.EIO
	}
	return ch, newStateHandle(fd, made), 0, 0
}

// exists is 0 when the directory has the name, as the daemon sees it.
func (n *stateNode) exists(name string) syscall.Errno {
	return n.inside(func(dir int) error {
		var st unix.Stat_t
		return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// fileFlags are the open flags that go to the backing file. The kernel gives offsets itself, so O_APPEND would write
// twice as far.
func fileFlags(flags uint32) int {
	return int(flags&^(syscall.O_APPEND|fuse.FMODE_EXEC)) | unix.O_CLOEXEC | unix.O_NONBLOCK
}

// Open implements fs.NodeOpener.
func (n *stateNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	name, special := n.settings()
	if fh, ff, e, ok := n.openShown(ctx, name, flags); ok {
		return fh, ff, e
	}
	var fd int
	e := n.tree.asCaller(ctx, func() syscall.Errno {
		var err error
		fd, err = n.openNode(fileFlags(flags) | unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) && serve.Reviving(ctx) != nil {
			fd, err = n.reopenOrphan(flags)
		}
		return stale(fusefs.ToErrno(err))
	})
	if e != 0 {
		return nil, 0, e
	}
	h := newStateHandle(fd, n)
	n.preserveLate()
	return h, cacheFlags(special), 0
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (n *stateNode) OpendirHandle(ctx context.Context, _ uint32) (fh fusefs.FileHandle, ff uint32, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() syscall.Errno {
		return n.inside(func(dir int) error {
			d, e := openDir(dir)
			fh = d
			return errorOf(e)
		})
	})
	if e != 0 {
		return nil, 0, e
	}
	return fh, 0, 0
}

// Rename implements fs.NodeRenamer, between directories of one tree.
func (n *stateNode) Rename(ctx context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, e := n.target(newParent, newName)
	if e == 0 {
		e = n.admitRename(ctx, name, to, newName, flags)
	}
	if e != 0 {
		return e
	}
	do := func() syscall.Errno {
		return n.tree.asCaller(ctx, func() syscall.Errno {
			return n.tree.still(ctx, &n.tree.moves, func() syscall.Errno { return n.rename(name, to, newName, flags) })
		})
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		return do()
	}
	return to.replacing(newName, do)
}

// rename is Rename while nothing else moves.
func (n *stateNode) rename(name string, to *stateNode, newName string, flags uint32) syscall.Errno {
	const dir = unix.O_PATH | unix.O_DIRECTORY
	from, err := n.tree.open(n.rel(), dir, 0)
	if err != nil {
		return fusefs.ToErrno(err)
	}
	defer unix.Close(from)
	into, err := n.tree.open(to.rel(), dir, 0)
	if err != nil {
		return fusefs.ToErrno(err)
	}
	defer unix.Close(into)
	return fusefs.ToErrno(unix.Renameat2(from, name, into, newName, uint(flags)))
}

// target is the state directory behind newParent. A name that is virtual there cannot be reached by rename: EXDEV
// makes callers copy, and a copy goes through the write firewall.
func (n *stateNode) target(newParent fusefs.InodeEmbedder, newName string) (*stateNode, syscall.Errno) {
	dir, ok := stateDirOf(newParent.EmbeddedInode())
	if !ok || dir.tree != n.tree || dir == &n.tree.stateNode && virtualName(newName) {
		return nil, syscall.EXDEV
	}
	return dir, 0
}

// Unlink implements fs.NodeUnlinker.
func (n *stateNode) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.displacing(name, func() syscall.Errno {
		return n.tree.asCaller(ctx, func() syscall.Errno {
			return n.inside(func(dir int) error { return unix.Unlinkat(dir, name, 0) })
		})
	})
}

// Rmdir implements fs.NodeRmdirer.
func (n *stateNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.displacing(name, func() syscall.Errno {
		return n.tree.asCaller(ctx, func() syscall.Errno {
			return n.inside(func(dir int) error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
		})
	})
}
