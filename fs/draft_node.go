package fs

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// draftNode is a file that a client writes beside the credential file before it renames it: .credentials.json.tmp.*
// and whatever else begins like that. It exists in memory only.
type draftNode struct {
	fusefs.Inode
	tree  *treeNode
	owner identity.Caller // who made it; other users may not open it
	mode  uint32
	mtime time.Time
	inode *fusefs.Inode
	name  atomic.Pointer[string] // the current one
	ino   uint64
	buf   buffer
}

// draftGen tells drafts from other virtual files.
const draftGen = 1

func newDraft(t *treeNode, name string, owner identity.Caller, mode uint32) *draftNode {
	d := &draftNode{tree: t, owner: owner, mode: mode & 0o777, mtime: time.Now(), ino: freshIno()}
	d.name.Store(&name)
	d.buf = buffer{cfg: t.cfg, kind: sealed.KindDraft, object: t.cfg.Sealed.NewID(), meta: d.meta, change: rand.Uint64()}
	return d
}

func (d *draftNode) meta() (carried, error) {
	return carried{
		Tree: d.tree.name, Name: *d.name.Load(), Ino: d.ino, Owner: d.owner, Mode: d.mode, MTime: d.mtime.UnixNano(),
		Change: d.buf.change,
	}, nil
}

// restoreDrafts makes the drafts that an earlier server kept.
func (t *treeNode) restoreDrafts(ctx context.Context) {
	for _, id := range t.cfg.Sealed.IDs(sealed.KindDraft) {
		m, content, ok := t.cfg.kept(sealed.KindDraft, id)
		if !ok || m.Tree != t.name {
			clear(content)
			continue
		}
		t.memory.owe(maxDraft)
		d := newDraft(t, m.Name, m.Owner, m.Mode)
		d.ino, d.mtime, d.buf.object, d.buf.data = m.Ino, time.Unix(0, m.MTime), id, content
		d.buf.change = m.Change
		t.register(ctx, d, m.Name)
	}
}

// register gives a draft its inode and name; t.mu is held, or nobody else knows the tree.
func (t *treeNode) register(ctx context.Context, d *draftNode, name string) {
	d.inode = t.NewInode(ctx, d, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: d.ino, Gen: draftGen})
	t.drafts[name] = d
}

var (
	_ fusefs.NodeOpener    = (*draftNode)(nil)
	_ fusefs.NodeGetattrer = (*draftNode)(nil)
	_ fusefs.NodeSetattrer = (*draftNode)(nil)
	_ fusefs.NodeAccesser  = (*draftNode)(nil)
	_ fusefs.NodeFlusher   = (*draftNode)(nil)
)

func (t *treeNode) draft(name string) *draftNode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.drafts[name]
}

// removeDraft answers an unlink.
func (t *treeNode) removeDraft(ctx context.Context, d *draftNode, name string) syscall.Errno {
	if _, e := d.permit(ctx); e != 0 {
		return e
	}
	t.forget(name, d)
	return 0
}

// forget drops a draft that still has the name, and wipes it.
func (t *treeNode) forget(name string, d *draftNode) {
	t.mu.Lock()
	if t.drafts[name] == d {
		delete(t.drafts, name)
		t.memory.give(maxDraft)
	}
	t.mu.Unlock()
	d.buf.wipe()
}

// permit asks whether the caller may change the tree's credential file: a draft is a login on its way there, and as
// secret as that. Another user's draft is refused as another user's file is.
func (d *draftNode) permit(ctx context.Context) (Change, syscall.Errno) {
	if e := d.Access(ctx, 0); e != 0 {
		return nil, e
	}
	change, err := d.tree.cfg.Credentials.Write(ctx, callerOf(ctx), d.tree.name)
	return change, errno(err)
}

// createDraft makes a draft, or opens the one of that name.
func (t *treeNode) createDraft(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	fresh := newDraft(t, name, callerOf(ctx), mode)
	if _, e := fresh.permit(ctx); e != 0 {
		return nil, nil, 0, e
	}
	t.mu.Lock()
	d, exists := t.drafts[name]
	switch {
	case exists && flags&syscall.O_EXCL != 0:
		t.mu.Unlock()
		return nil, nil, 0, syscall.EEXIST
	case !exists && (len(t.drafts) >= maxDrafts || !t.memory.take(maxDraft)):
		t.mu.Unlock()
		return nil, nil, 0, syscall.ENOSPC
	case !exists:
		d = fresh
		t.register(ctx, d, name)
	}
	t.mu.Unlock()
	if e := d.buf.keep(); !exists && e != 0 {
		t.forget(name, d)
		return nil, nil, 0, e
	}
	h, ff, e := d.Open(ctx, flags)
	return d.entry(out), h, ff, e
}

func (d *draftNode) entry(out *fuse.EntryOut) *fusefs.Inode {
	d.attr(&out.Attr)
	return d.inode
}

func (d *draftNode) attr(a *fuse.Attr) {
	a.Mode = syscall.S_IFREG | d.mode
	a.Size, a.Nlink = d.buf.size(), 1
	a.Uid, a.Gid = d.owner.UID, d.owner.GID
	a.SetTimes(&d.mtime, &d.mtime, &d.mtime)
}

// Getattr implements fs.NodeGetattrer.
func (d *draftNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	d.attr(&out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer.
func (d *draftNode) Setattr(ctx context.Context, _ fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if _, e := d.permit(ctx); e != 0 {
		return e
	}
	if size, ok := in.GetSize(); ok {
		if e := d.buf.truncate(size); e != 0 {
			return e
		}
	}
	d.attr(&out.Attr)
	return 0
}

// Access implements fs.NodeAccesser: a draft is its maker's.
func (d *draftNode) Access(ctx context.Context, _ uint32) syscall.Errno {
	if c := callerOf(ctx); c.UID != d.owner.UID && c.UID != 0 {
		return syscall.EACCES
	}
	return 0
}

// Open implements fs.NodeOpener. The node is its own handle: the content belongs to the name, not to one open.
func (d *draftNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if serve.Reviving(ctx) != nil {
		return draftHandle{d}, fuse.FOPEN_DIRECT_IO, 0
	}
	if _, e := d.permit(ctx); e != 0 {
		return nil, 0, e
	}
	if flags&syscall.O_TRUNC != 0 {
		if e := d.buf.truncate(0); e != 0 {
			return nil, 0, e
		}
	}
	return draftHandle{d}, fuse.FOPEN_DIRECT_IO, 0
}

// Flush implements fs.NodeFlusher.
func (d *draftNode) Flush(context.Context, fusefs.FileHandle) syscall.Errno { return 0 }

// draftHandle is an open draft.
type draftHandle struct{ d *draftNode }

// Write implements fs.FileWriter.
func (h draftHandle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	return h.d.buf.write(data, off)
}

// Read implements fs.FileReader.
func (h draftHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return h.d.buf.read(dest, off), 0
}

// Fsync implements fs.FileFsyncer.
func (h draftHandle) Fsync(context.Context, uint32) syscall.Errno { return 0 }

// renameDraft publishes a draft that is renamed over the credential file, or gives it another draft's name.
func (t *treeNode) renameDraft(ctx context.Context, d *draftNode, name, newName string) syscall.Errno {
	change, e := d.permit(ctx)
	if e != 0 {
		return e
	}
	if newName != credentialName {
		return t.rename(ctx, d, name, newName)
	}
	id, content := d.buf.whole()
	defer clear(content)
	if err := change.Publish(ctx, id, content); err != nil {
		return errno(err)
	}
	t.forget(name, d)
	return 0
}

// rename gives a draft another draft's name; one that had it is dropped.
func (t *treeNode) rename(ctx context.Context, d *draftNode, name, newName string) syscall.Errno {
	if !virtualName(newName) || newName == lockName || newName == keyName {
		return syscall.EXDEV
	}
	if old := t.draft(newName); old != nil && old != d {
		if _, e := old.permit(ctx); e != 0 {
			return e
		}
		t.forget(newName, old)
	}
	t.mu.Lock()
	if t.drafts[name] != d {
		t.mu.Unlock()
		return syscall.ENOENT
	}
	delete(t.drafts, name)
	t.drafts[newName] = d
	t.mu.Unlock()
	d.name.Store(&newName)
	return d.buf.keep()
}
