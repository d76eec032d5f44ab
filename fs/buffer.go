package fs

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/sealed"
)

// maxDraft bounds what a client may write as credential file, in bytes.
const maxDraft = 1 << 20

// buffer is a growing file in memory. What a write left is in sealed memory before the write is answered, so that the
// next server has it.
type buffer struct {
	cfg    *Config
	kind   sealed.Kind
	object uint64
	meta   func() (carried, error) // called with mu held

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
	if e := b.save(); e != 0 {
		return 0, e
	}
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
	return b.save()
}

// keep puts the buffer into sealed memory as it is.
func (b *buffer) keep() syscall.Errno {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.save()
}

// save is keep with b.mu held.
func (b *buffer) save() syscall.Errno {
	meta, err := b.meta()
	if err == nil {
		err = b.cfg.keep(b.kind, b.object, meta, b.data)
	}
	if err != nil {
		return syscall.ENOSPC
	}
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
	if off < 0 || off >= int64(len(b.data)) {
		return fuse.ReadResultData(nil)
	}
	return fuse.ReadResultData(dest[:copy(dest, b.data[off:])])
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

// taken returns a copy of what was written since the last call, whole, and whether anything was. In sealed memory it
// stays to be published: a server that dies before the answer has the next one publish it again.
func (b *buffer) taken() (content []byte, dirty bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dirty {
		return nil, false
	}
	b.dirty = false
	return append([]byte(nil), b.data...), true
}

func (b *buffer) wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.data[:cap(b.data)])
	b.data, b.closed = nil, true
	b.cfg.Sealed.Delete(b.kind, b.object)
}
