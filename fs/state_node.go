package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// stateTimeout is how long the kernel may use a state file's name and attributes: with 0 a directory walk takes ten
// times as long.
const stateTimeout = time.Second

// stateNode is a file or directory below a tree's state directory. It is go-fuse's loopback, run as the caller.
type stateNode struct {
	fusefs.LoopbackNode
	tree *treeNode
}

var (
	_ fusefs.NodeLookuper       = (*stateNode)(nil)
	_ fusefs.NodeCreater        = (*stateNode)(nil)
	_ fusefs.NodeOpener         = (*stateNode)(nil)
	_ fusefs.NodeOpendirHandler = (*stateNode)(nil)
	_ fusefs.NodeAccesser       = (*stateNode)(nil)
	_ fusefs.NodeTmpfiler       = (*stateNode)(nil)
	_ fusefs.NodeCopyFileRanger = (*stateNode)(nil)
)

func cacheEntry(out *fuse.EntryOut) {
	out.SetEntryTimeout(stateTimeout)
	out.SetAttrTimeout(stateTimeout)
}

// Lookup implements fs.NodeLookuper.
func (n *stateNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (ch *fusefs.Inode, e syscall.Errno) {
	return n.made(ctx, out, func() (*fusefs.Inode, syscall.Errno) { return n.LoopbackNode.Lookup(ctx, name, out) })
}

// Mkdir implements fs.NodeMkdirer.
func (n *stateNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.made(ctx, out, func() (*fusefs.Inode, syscall.Errno) { return n.LoopbackNode.Mkdir(ctx, name, mode, out) })
}

// Mknod implements fs.NodeMknoder: regular files, FIFOs and sockets; no devices.
func (n *stateNode) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if t := mode & syscall.S_IFMT; t == syscall.S_IFBLK || t == syscall.S_IFCHR {
		return nil, syscall.EPERM
	}
	return n.made(ctx, out, func() (*fusefs.Inode, syscall.Errno) { return n.LoopbackNode.Mknod(ctx, name, mode, dev, out) })
}

// Symlink implements fs.NodeSymlinker.
func (n *stateNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return n.made(ctx, out, func() (*fusefs.Inode, syscall.Errno) { return n.LoopbackNode.Symlink(ctx, target, name, out) })
}

// Link implements fs.NodeLinker.
func (n *stateNode) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	s, ok := target.(*stateNode)
	if !ok || s.tree != n.tree {
		return nil, syscall.EXDEV
	}
	return n.made(ctx, out, func() (*fusefs.Inode, syscall.Errno) { return n.LoopbackNode.Link(ctx, &s.LoopbackNode, name, out) })
}

// asCaller asks the gate and runs do as the caller.
func (t *treeNode) asCaller(ctx context.Context, do func() syscall.Errno) syscall.Errno {
	if err := t.cfg.Gate.Use(ctx, callerOf(ctx), t.name); err != nil {
		return errno(err)
	}
	return asCaller(ctx, do)
}

// made runs a request that answers with an entry, as the caller, and lets the kernel cache what it gave.
func (n *stateNode) made(ctx context.Context, out *fuse.EntryOut, do func() (*fusefs.Inode, syscall.Errno)) (ch *fusefs.Inode, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() (e syscall.Errno) {
		ch, e = do()
		return e
	})
	if e == 0 {
		cacheEntry(out)
	}
	return ch, e
}

// Create implements fs.NodeCreater.
func (n *stateNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (ch *fusefs.Inode, fh fusefs.FileHandle, ff uint32, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() (e syscall.Errno) {
		ch, fh, ff, e = n.LoopbackNode.Create(ctx, name, flags, mode, out)
		return e
	})
	if e != 0 {
		return nil, nil, 0, e
	}
	cacheEntry(out)
	return ch, newStateHandle(fh, n.tree), ff, 0
}

// Tmpfile implements fs.NodeTmpfiler.
func (n *stateNode) Tmpfile(ctx context.Context, flags, mode uint32, out *fuse.EntryOut) (ch *fusefs.Inode, fh fusefs.FileHandle, ff uint32, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() (e syscall.Errno) {
		ch, fh, ff, e = n.LoopbackNode.Tmpfile(ctx, flags, mode, out)
		return e
	})
	if e != 0 {
		return nil, nil, 0, e
	}
	return ch, newStateHandle(fh, n.tree), ff, 0
}

// Open implements fs.NodeOpener.
func (n *stateNode) Open(ctx context.Context, flags uint32) (fh fusefs.FileHandle, ff uint32, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() (e syscall.Errno) {
		fh, ff, e = n.LoopbackNode.Open(ctx, flags)
		return e
	})
	if e != 0 {
		return nil, 0, e
	}
	return newStateHandle(fh, n.tree), ff, 0
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (n *stateNode) OpendirHandle(ctx context.Context, flags uint32) (fh fusefs.FileHandle, ff uint32, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() (e syscall.Errno) {
		fh, ff, e = n.LoopbackNode.OpendirHandle(ctx, flags)
		return e
	})
	return fh, ff, e
}

// Rename implements fs.NodeRenamer, between directories of one tree.
func (n *stateNode) Rename(ctx context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	to, e := n.target(newParent, newName)
	if e != 0 {
		return e
	}
	return n.tree.asCaller(ctx, func() syscall.Errno {
		return n.LoopbackNode.Rename(ctx, name, &to.LoopbackNode, newName, flags)
	})
}

// target is the state directory behind newParent. A name that is virtual there cannot be reached by rename: EXDEV
// makes callers copy, and a copy goes through the write firewall.
func (n *stateNode) target(newParent fusefs.InodeEmbedder, newName string) (*stateNode, syscall.Errno) {
	switch p := newParent.(type) {
	case *treeNode:
		if virtualName(newName) {
			return nil, syscall.EXDEV
		}
		if p == n.tree {
			return &p.stateNode, 0
		}
	case *stateNode:
		if p.tree == n.tree {
			return p, 0
		}
	}
	return nil, syscall.EXDEV
}

// Unlink implements fs.NodeUnlinker.
func (n *stateNode) Unlink(ctx context.Context, name string) syscall.Errno {
	return n.tree.asCaller(ctx, func() syscall.Errno { return n.LoopbackNode.Unlink(ctx, name) })
}

// Rmdir implements fs.NodeRmdirer.
func (n *stateNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	return n.tree.asCaller(ctx, func() syscall.Errno { return n.LoopbackNode.Rmdir(ctx, name) })
}

// Readlink implements fs.NodeReadlinker.
func (n *stateNode) Readlink(ctx context.Context) (target []byte, e syscall.Errno) {
	e = n.tree.asCaller(ctx, func() (e syscall.Errno) {
		target, e = n.LoopbackNode.Readlink(ctx)
		return e
	})
	return target, e
}

// Getattr implements fs.NodeGetattrer.
func (n *stateNode) Getattr(ctx context.Context, fh fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	// As the daemon: the caller has the inode already, and fstat must work on a file it opened before it lost rights.
	e := n.LoopbackNode.Getattr(ctx, fh, out)
	out.SetTimeout(stateTimeout)
	return e
}

// Setattr implements fs.NodeSetattrer.
func (n *stateNode) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	e := n.tree.asCaller(ctx, func() syscall.Errno { return n.LoopbackNode.Setattr(ctx, loopbackHandle(fh), in, out) })
	out.SetTimeout(stateTimeout)
	return e
}

// Access implements fs.NodeAccesser: access(2), chdir(2). The backing file system answers.
func (n *stateNode) Access(ctx context.Context, mask uint32) syscall.Errno {
	return n.tree.asCaller(ctx, func() syscall.Errno { return n.accessBacking(mask) })
}

// CopyFileRange implements fs.NodeCopyFileRanger between state files.
func (n *stateNode) CopyFileRange(ctx context.Context, in fusefs.FileHandle, offIn uint64, out *fusefs.Inode,
	outFh fusefs.FileHandle, offOut, length, flags uint64) (uint32, syscall.Errno) {
	return n.LoopbackNode.CopyFileRange(ctx, loopbackHandle(in), offIn, out, loopbackHandle(outFh), offOut, length, flags)
}
