package fs

import (
	"context"
	"errors"
	"hash/fnv"
	iofs "io/fs"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// virtualIno marks inode numbers of virtual files; backing file systems do not reach that high.
const virtualIno = 1 << 62

// credentialIno gives each content of a tree's credential file an inode of its own: fstat carries no file handle in
// the FUSE protocol, so size and time belong to the inode, and the kernel's page cache does too.
func credentialIno(tree string, version uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(tree))
	for i := range 8 {
		_, _ = h.Write([]byte{byte(version >> (8 * i))})
	}
	return virtualIno | h.Sum64()>>3
}

// isCredential tells versions of credential files from other virtual files.
func isCredential(k ledger.Key) bool {
	return k.Ino&virtualIno != 0 && k.Gen == 0 && k.Type == regular
}

// credentialNode is one version of a tree's .credentials.json.
type credentialNode struct {
	fusefs.Inode
	tree *treeNode
	stat Stat
}

var (
	_ fusefs.NodeOpener    = (*credentialNode)(nil)
	_ fusefs.NodeGetattrer = (*credentialNode)(nil)
	_ fusefs.NodeSetattrer = (*credentialNode)(nil)
	_ fusefs.NodeAccesser  = (*credentialNode)(nil)
)

func (t *treeNode) lookupCredential(ctx context.Context, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if r := serve.Reviving(ctx); r != nil && r.Node != nil {
		// A version that may not be the current one any more. Its size and time never change.
		st := Stat{Size: int64(r.Node.Size), ModTime: time.Unix(0, r.Node.MTime)}
		return t.version(ctx, r.Node.Key.Ino, st, out), 0
	}
	st, err := t.cfg.Credentials.Stat(t.name)
	if err != nil {
		return nil, errno(err)
	}
	return t.credential(ctx, st, out), 0
}

// credential returns the inode of a version. Timeouts stay 0: a running client sees a rotation at its next stat.
func (t *treeNode) credential(ctx context.Context, st Stat, out *fuse.EntryOut) *fusefs.Inode {
	return t.version(ctx, credentialIno(t.name, st.Version), st, out)
}

func (t *treeNode) version(ctx context.Context, ino uint64, st Stat, out *fuse.EntryOut) *fusefs.Inode {
	n := &credentialNode{tree: t, stat: st}
	n.attr(ctx, &out.Attr)
	return t.NewInode(ctx, n, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: ino})
}

func (n *credentialNode) attr(ctx context.Context, a *fuse.Attr) {
	a.Mode = syscall.S_IFREG | 0o600
	a.Size, a.Nlink = uint64(n.stat.Size), 1
	a.SetTimes(&n.stat.ModTime, &n.stat.ModTime, &n.stat.ModTime)
	asSeen(ctx, a)
}

// Getattr implements fs.NodeGetattrer. The size is never that of a writer's buffer: go-fuse passes any open handle.
func (n *credentialNode) Getattr(ctx context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.attr(ctx, &out.Attr)
	return 0
}

// Setattr implements fs.NodeSetattrer. A client sets the mode after each write, and truncates when it writes in
// place; neither mode, owner nor times of a virtual file can change.
func (n *credentialNode) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		h, ok := fh.(*changeHandle)
		if !ok {
			return syscall.EACCES // truncate(2) by name changes nothing and says so
		}
		if e := h.buf.truncate(size); e != 0 {
			return e
		}
	}
	n.attr(ctx, &out.Attr)
	return 0
}

// Access implements fs.NodeAccesser: whoever sees the file sees it as its own. Open decides.
func (n *credentialNode) Access(_ context.Context, mask uint32) syscall.Errno {
	if mask&1 != 0 { // X_OK
		return syscall.EACCES
	}
	return 0
}

// Open implements fs.NodeOpener. A reader gets the snapshot of this moment; a writer gets a buffer.
func (n *credentialNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if r := serve.Reviving(ctx); r != nil {
		return n.tree.reopenCredential(uint64(r.Object), flags)
	}
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return n.tree.openChange(ctx, flags)
	}
	snap, err := n.tree.cfg.Credentials.Open(ctx, callerOf(ctx), n.tree.name)
	if err != nil {
		return nil, 0, errno(err)
	}
	return n.disclose(snap)
}

// disclose opens a snapshot of the version that the node is.
func (n *credentialNode) disclose(snap *Snapshot) (fusefs.FileHandle, uint32, syscall.Errno) {
	defer clear(snap.Content)
	if snap.Size != n.stat.Size {
		// The name leads to another size by now, and this inode promised the old one: have the kernel look again.
		return nil, 0, syscall.ESTALE
	}
	if !n.tree.memory.take(len(snap.Content)) {
		return nil, 0, syscall.ENFILE
	}
	h, err := newSnapshotHandle(n.tree, snap.Content)
	if err != nil {
		n.tree.memory.give(len(snap.Content))
		return nil, 0, syscall.ENFILE
	}
	return h, n.tree.cfg.withObject(fuse.FOPEN_DIRECT_IO, h.object), 0
}

// openChange opens the file for an in-place write, as clients before 2.1 do.
func (t *treeNode) openChange(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	change, err := t.cfg.Credentials.Write(ctx, callerOf(ctx), t.name)
	if err != nil {
		return nil, 0, errno(err)
	}
	if !t.memory.take(maxDraft) { // what the buffer may grow to
		return nil, 0, syscall.ENFILE
	}
	h := newChangeHandle(t, change)
	if flags&syscall.O_TRUNC == 0 {
		snap, err := t.cfg.Credentials.Open(ctx, callerOf(ctx), t.name)
		if err != nil && !errors.Is(err, iofs.ErrNotExist) {
			t.memory.give(maxDraft)
			return nil, 0, errno(err)
		}
		if snap != nil {
			h.buf.data = snap.Content
		}
	}
	if e := h.buf.keep(); e != 0 {
		t.memory.give(maxDraft)
		return nil, 0, e
	}
	return h, t.cfg.withObject(fuse.FOPEN_DIRECT_IO, h.buf.object), 0
}

// reopenCredential goes on with a handle that an earlier server gave: its content is in sealed memory.
func (t *treeNode) reopenCredential(object uint64, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE == syscall.O_RDONLY {
		size := t.cfg.Sealed.Size(sealed.KindSnapshot, object)
		if size == 0 {
			return nil, 0, syscall.ESTALE
		}
		t.memory.owe(size)
		return &snapshotHandle{tree: t, object: object, size: size}, fuse.FOPEN_DIRECT_IO, 0
	}
	meta, content, ok := t.cfg.kept(sealed.KindChange, object)
	if !ok {
		return nil, 0, syscall.ESTALE
	}
	change, err := t.cfg.Credentials.Redeem(t.name, meta.Ticket)
	if err != nil {
		clear(content)
		return nil, 0, syscall.ESTALE
	}
	t.memory.owe(maxDraft)
	h := newChangeHandle(t, change)
	h.buf.object, h.buf.data, h.buf.dirty, h.buf.change = object, content, meta.Dirty, meta.Change
	return h, fuse.FOPEN_DIRECT_IO, 0
}

func (t *treeNode) createCredential(ctx context.Context, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	h, ff, e := t.openChange(ctx, syscall.O_TRUNC)
	if e != 0 {
		return nil, nil, 0, e
	}
	// What is there after the close has another version; this inode only carries the handle.
	return t.credential(ctx, Stat{ModTime: t.born}, out), h, ff, 0
}

func (t *treeNode) removeCredential(ctx context.Context) syscall.Errno {
	change, err := t.cfg.Credentials.Write(ctx, callerOf(ctx), t.name)
	if err != nil {
		return errno(err)
	}
	return errno(change.Remove(ctx))
}
