package fs

import (
	"strconv"
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
	change uint64 // another number after each write, of all buffers there ever were
	closed bool   // wiped for good: its name or its handle is gone
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
	b.changed()
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
	b.changed()
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

// changed notes that there is something to publish; b.mu is held.
func (b *buffer) changed() {
	b.change++
	b.dirty = true
}

// whole returns a copy and what names it.
func (b *buffer) whole() (id string, content []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return changeID(b.change), append([]byte(nil), b.data...)
}

// changeID is how a change is named to whoever publishes it.
func changeID(change uint64) string { return strconv.FormatUint(change, 16) }

// published passes what was written since it was last called to do, whole. A server that dies before the note of it is
// in sealed memory has the next one do it again, under the same id.
func (b *buffer) published(do func(id string, content []byte) error) error {
	b.mu.Lock()
	if !b.dirty {
		b.mu.Unlock()
		return nil
	}
	b.dirty = false
	b.mu.Unlock()
	id, content := b.whole()
	defer clear(content)
	if err := do(id, content); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.save() // failing that, the next server publishes it again, which changes nothing
	}
	return nil
}

func (b *buffer) wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.data[:cap(b.data)])
	b.data, b.closed = nil, true
	b.cfg.Sealed.Delete(b.kind, b.object)
}
