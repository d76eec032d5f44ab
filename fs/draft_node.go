package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/identity"
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
	buf   buffer
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
	fresh := &draftNode{tree: t, owner: callerOf(ctx), mode: mode & 0o777, mtime: time.Now()}
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
		d.inode = t.NewInode(ctx, d, fusefs.StableAttr{Mode: syscall.S_IFREG})
		t.drafts[name] = d
	}
	t.mu.Unlock()
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
	content := d.buf.content()
	defer clear(content)
	if err := change.Publish(ctx, content); err != nil {
		return errno(err)
	}
	t.forget(name, d)
	return 0
}

// rename gives a draft another draft's name; one that had it is dropped.
func (t *treeNode) rename(ctx context.Context, d *draftNode, name, newName string) syscall.Errno {
	if !virtualName(newName) || newName == lockName {
		return syscall.EXDEV
	}
	if old := t.draft(newName); old != nil && old != d {
		if _, e := old.permit(ctx); e != 0 {
			return e
		}
		t.forget(newName, old)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.drafts[name] != d {
		return syscall.ENOENT
	}
	delete(t.drafts, name)
	t.drafts[newName] = d
	return 0
}
