package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// lockState is a tree's .oauth_refresh.lock: held by a client that made it, or shown as held by the daemon while no
// newer token can be had.
type lockState struct {
	held   bool
	owner  identity.Caller
	mtime  time.Time
	ino    uint64 // another one each time it is taken: a removed directory does not come back
	object uint64 // in sealed memory
}

// lockGen tells locks from other virtual files.
const lockGen = 2

// setLock changes the lock's state, here and in sealed memory; t.mu is held. What cannot be kept goes with the server.
func (t *treeNode) setLock(s lockState) {
	if t.lock.object != 0 && t.lock.object != s.object {
		t.cfg.Sealed.Delete(sealed.KindLock, t.lock.object)
	}
	t.lock = s
	if !s.held {
		return
	}
	meta := carried{Tree: t.name, Ino: s.ino, Owner: s.owner, MTime: s.mtime.UnixNano()}
	if err := t.cfg.keep(sealed.KindLock, s.object, meta, nil); err != nil {
		t.cfg.Log.Warn("Refresh lock would not outlive the server", "tree", t.name, "err", err)
	}
}

// restoreLock finds the lock that an earlier server kept; nobody else knows the tree yet.
func (t *treeNode) restoreLock() {
	for _, id := range t.cfg.Sealed.IDs(sealed.KindLock) {
		if m, _, ok := t.cfg.kept(sealed.KindLock, id); ok && m.Tree == t.name {
			t.lock = lockState{held: true, owner: m.Owner, mtime: time.Unix(0, m.MTime), ino: m.Ino, object: id}
		}
	}
}

// lockNode is the lock directory. It is always empty.
type lockNode struct {
	fusefs.Inode
	tree *treeNode
}

var (
	_ fusefs.NodeGetattrer = (*lockNode)(nil)
	_ fusefs.NodeSetattrer = (*lockNode)(nil)
	_ fusefs.NodeReaddirer = (*lockNode)(nil)
	_ fusefs.NodeAccesser  = (*lockNode)(nil)
)

// takeLock answers a client's mkdir: "my token does not work". It succeeds when a newer token is there to be read.
// While none can be had the lock looks taken, and fresh: the client then waits for it instead of spending the
// surrogate.
func (t *treeNode) takeLock(ctx context.Context, _ uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	t.mu.Lock()
	held := t.lock.held
	t.mu.Unlock()
	if held {
		return nil, syscall.EEXIST
	}
	if err := t.cfg.Locks.Acquire(ctx, callerOf(ctx), t.name); err != nil {
		return nil, errno(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lock.held { // another client was faster while we asked
		return nil, syscall.EEXIST
	}
	t.setLock(lockState{held: true, owner: callerOf(ctx), mtime: time.Now(), ino: freshIno(), object: t.cfg.Sealed.NewID()})
	return t.lockEntry(ctx, out), 0
}

func (t *treeNode) lookupLock(ctx context.Context, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	busy := t.cfg.Locks.Busy(t.name)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.lock.held && (!busy || serve.Reviving(ctx) != nil) {
		return nil, syscall.ENOENT // what is only shown was made by nobody
	}
	return t.lockEntry(ctx, out), 0
}

// lockEntry returns the lock's inode; t.mu is held.
func (t *treeNode) lockEntry(ctx context.Context, out *fuse.EntryOut) *fusefs.Inode {
	t.lockAttr(&out.Attr)
	ino := t.lock.ino
	if !t.lock.held {
		ino = credentialIno(t.name+"\x00lock", 0)
	}
	return t.NewInode(ctx, &lockNode{tree: t}, fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: ino, Gen: lockGen})
}

// lockAttr fills in the lock's attributes; t.mu is held. A lock of the daemon's own is always fresh.
func (t *treeNode) lockAttr(a *fuse.Attr) {
	mtime, owner := time.Now(), identity.Caller{}
	if t.lock.held {
		mtime, owner = t.lock.mtime, t.lock.owner
	}
	a.Mode, a.Nlink = syscall.S_IFDIR|0o700, 2
	a.Uid, a.Gid = owner.UID, owner.GID
	a.SetTimes(&mtime, &mtime, &mtime)
}

// dropLock answers an rmdir: the holder lets go, or another client of the tree takes a stale lock away.
func (t *treeNode) dropLock(ctx context.Context) syscall.Errno {
	if err := t.cfg.Gate.Use(ctx, callerOf(ctx), t.name); err != nil {
		return errno(err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.lock.held {
		return syscall.ENOENT
	}
	t.setLock(lockState{})
	return 0
}

// Getattr implements fs.NodeGetattrer.
func (n *lockNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	n.tree.lockAttr(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer: the holder touches its lock every few seconds.
func (n *lockNode) Setattr(ctx context.Context, _ fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if err := n.tree.cfg.Gate.Use(ctx, callerOf(ctx), n.tree.name); err != nil {
		return errno(err)
	}
	n.tree.mu.Lock()
	defer n.tree.mu.Unlock()
	if m, ok := in.GetMTime(); ok && n.tree.lock.held {
		s := n.tree.lock
		s.mtime = m
		n.tree.setLock(s)
	}
	n.tree.lockAttr(&out.Attr)
	return 0
}

// Access implements fs.NodeAccesser.
func (n *lockNode) Access(context.Context, uint32) syscall.Errno { return 0 }

// Readdir implements fs.NodeReaddirer.
func (n *lockNode) Readdir(context.Context) (fusefs.DirStream, syscall.Errno) {
	return fusefs.NewListDirStream(nil), 0
}
