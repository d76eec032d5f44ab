package fs

import (
	"context"
	"math/rand/v2"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/sealed"
)

// snapshotHandle is the content of one open for reading. It lies in sealed memory, where the next server finds it.
type snapshotHandle struct {
	tree   *treeNode
	object uint64
	size   int
}

var (
	_ fusefs.FileReader   = (*snapshotHandle)(nil)
	_ fusefs.FileReleaser = (*snapshotHandle)(nil)
)

func newSnapshotHandle(t *treeNode, content []byte) (*snapshotHandle, error) {
	h := &snapshotHandle{tree: t, object: t.cfg.Sealed.NewID(), size: len(content)}
	return h, t.cfg.Sealed.Put(sealed.KindSnapshot, h.object, nil, content)
}

// Read implements fs.FileReader. It copies into the reply's own buffer: the content may be wiped before the reply is
// written.
func (h *snapshotHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultData(dest[:h.tree.cfg.Sealed.ReadAt(sealed.KindSnapshot, h.object, dest, off)]), 0
}

// Release implements fs.FileReleaser: the bytes do not outlive the handle.
func (h *snapshotHandle) Release(context.Context) syscall.Errno {
	h.tree.cfg.Sealed.Delete(sealed.KindSnapshot, h.object)
	h.tree.memory.give(h.size)
	h.size = 0
	return 0
}

// changeHandle is the credential file open for writing in place. The change was permitted when it was opened, while
// the caller could be attested, and is published when it is closed.
type changeHandle struct {
	tree   *treeNode
	change Change
	buf    buffer
}

var (
	_ fusefs.FileWriter   = (*changeHandle)(nil)
	_ fusefs.FileReader   = (*changeHandle)(nil)
	_ fusefs.FileFlusher  = (*changeHandle)(nil)
	_ fusefs.FileFsyncer  = (*changeHandle)(nil)
	_ fusefs.FileReleaser = (*changeHandle)(nil)
)

func newChangeHandle(t *treeNode, change Change) *changeHandle {
	h := &changeHandle{tree: t, change: change}
	h.buf = buffer{cfg: t.cfg, kind: sealed.KindChange, object: t.cfg.Sealed.NewID(), meta: h.meta, change: rand.Uint64()}
	return h
}

func (h *changeHandle) meta() (carried, error) {
	ticket, err := h.change.Ticket()
	return carried{Tree: h.tree.name, Ticket: ticket, Dirty: h.buf.dirty, Change: h.buf.change}, err
}

// Write implements fs.FileWriter.
func (h *changeHandle) Write(_ context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	return h.buf.write(data, off)
}

// Read implements fs.FileReader: a writer reads its own bytes.
func (h *changeHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return h.buf.read(dest, off), 0
}

// Flush implements fs.FileFlusher: close publishes, and its error is the writer's answer. FLUSH of a dying process
// has no caller that could be attested, which is why Open was asked.
func (h *changeHandle) Flush(ctx context.Context) syscall.Errno {
	return errno(h.buf.published(func(id string, content []byte) error { return h.change.Publish(ctx, id, content) }))
}

// Fsync implements fs.FileFsyncer. Nothing is published half-way.
func (h *changeHandle) Fsync(context.Context, uint32) syscall.Errno { return 0 }

// Release implements fs.FileReleaser.
func (h *changeHandle) Release(context.Context) syscall.Errno {
	h.buf.wipe()
	h.tree.memory.give(maxDraft)
	return 0
}
