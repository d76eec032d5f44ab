package fs

import (
	"context"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// listing is an open directory whose entries are read in one piece at the first readdir and again after a rewind, so
// that one pass is consistent.
type listing struct {
	tree *treeNode

	mu      sync.Mutex
	entries []fuse.DirEntry
	next    int
	read    bool
}

var (
	_ fusefs.FileReaddirenter = (*listing)(nil)
	_ fusefs.FileSeekdirer    = (*listing)(nil)
	_ fusefs.FileReleasedirer = (*listing)(nil)
)

// entrySize is what an entry of a listing is counted with, in bytes.
const entrySize = 128

// Readdirent implements fs.FileReaddirenter.
func (l *listing) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.read {
		entries, e := l.tree.entries(ctx)
		if e != 0 {
			return nil, e
		}
		if !l.tree.memory.take(len(entries) * entrySize) {
			return nil, syscall.ENFILE
		}
		l.entries, l.read = entries, true
	}
	if l.next >= len(l.entries) {
		return nil, 0
	}
	d := l.entries[l.next]
	l.next++
	d.Off = uint64(l.next)
	return &d, 0
}

// Seekdir implements fs.FileSeekdirer.
func (l *listing) Seekdir(_ context.Context, off uint64) syscall.Errno {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off == 0 {
		l.drop()
		return 0
	}
	l.next = int(min(off, uint64(len(l.entries))))
	return 0
}

// Releasedir implements fs.FileReleasedirer.
func (l *listing) Releasedir(context.Context, uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop()
}

// drop forgets what was read; l.mu is held.
func (l *listing) drop() {
	l.tree.memory.give(len(l.entries) * entrySize)
	l.entries, l.read, l.next = nil, false, 0
}
