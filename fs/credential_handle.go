package fs

import (
	"context"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxDraft bounds what a client may write as credential file, in bytes.
const maxDraft = 1 << 20

// snapshotHandle is the content of one open for reading.
type snapshotHandle struct {
	memory *budget

	mu      sync.RWMutex
	content []byte
}

var (
	_ fusefs.FileReader   = (*snapshotHandle)(nil)
	_ fusefs.FileReleaser = (*snapshotHandle)(nil)
)

// Read implements fs.FileReader.
func (h *snapshotHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return readAt(h.content, dest, off), 0
}

// Release implements fs.FileReleaser: the bytes do not outlive the handle.
func (h *snapshotHandle) Release(context.Context) syscall.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.content)
	h.memory.give(len(h.content))
	h.content = nil
	return 0
}

// readAt copies into the reply's own buffer: the content may be wiped before the reply is written.
func readAt(content, dest []byte, off int64) fuse.ReadResult {
	if off < 0 || off >= int64(len(content)) {
		return fuse.ReadResultData(nil)
	}
	return fuse.ReadResultData(dest[:copy(dest, content[off:])])
}

// buffer is a growing file in memory.
type buffer struct {
	mu     sync.Mutex
	data   []byte
	dirty  bool
	closed bool // wiped for good: its name or its handle is gone
}

func (b *buffer) write(data []byte, off int64) (uint32, syscall.Errno) {
	b.mu.Lock()
	defer b.mu.Unlock()
	end := off + int64(len(data))
	if b.closed {
		return 0, syscall.EIO
	}
	if off < 0 || end > maxDraft {
		return 0, syscall.EFBIG
	}
	b.resize(max(end, int64(len(b.data))))
	copy(b.data[off:], data)
	b.dirty = true
	return uint32(len(data)), 0
}

func (b *buffer) truncate(size uint64) syscall.Errno {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return syscall.EIO
	}
	if size > maxDraft {
		return syscall.EFBIG
	}
	b.resize(int64(size))
	b.dirty = true
	return 0
}

// resize wipes what it leaves behind; b.mu is held.
func (b *buffer) resize(size int64) {
	if size <= int64(len(b.data)) {
		clear(b.data[size:])
		b.data = b.data[:size]
		return
	}
	if size <= int64(cap(b.data)) {
		b.data = b.data[:size]
		return
	}
	grown := make([]byte, size, 2*size)
	copy(grown, b.data)
	clear(b.data)
	b.data = grown
}

func (b *buffer) read(dest []byte, off int64) fuse.ReadResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	return readAt(b.data, dest, off)
}

func (b *buffer) size() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return uint64(len(b.data))
}

// content returns a copy.
func (b *buffer) content() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]byte(nil), b.data...)
}

func (b *buffer) wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.data[:cap(b.data)])
	b.data, b.closed = nil, true
}

// changeHandle is the credential file open for writing in place. The change was permitted when it was opened, while
// the caller could be attested, and is published when it is closed.
type changeHandle struct {
	change Change
	memory *budget
	buf    buffer
}

var (
	_ fusefs.FileWriter   = (*changeHandle)(nil)
	_ fusefs.FileReader   = (*changeHandle)(nil)
	_ fusefs.FileFlusher  = (*changeHandle)(nil)
	_ fusefs.FileFsyncer  = (*changeHandle)(nil)
	_ fusefs.FileReleaser = (*changeHandle)(nil)
)

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
	h.buf.mu.Lock()
	dirty := h.buf.dirty
	h.buf.dirty = false
	h.buf.mu.Unlock()
	if !dirty {
		return 0
	}
	content := h.buf.content()
	defer clear(content)
	return errno(h.change.Publish(ctx, content))
}

// Fsync implements fs.FileFsyncer. Nothing is published half-way.
func (h *changeHandle) Fsync(context.Context, uint32) syscall.Errno { return 0 }

// Release implements fs.FileReleaser.
func (h *changeHandle) Release(context.Context) syscall.Errno {
	h.buf.wipe()
	h.memory.give(maxDraft)
	return 0
}
