package fs

import (
	"cmp"
	"context"
	"hash/fnv"
	"slices"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// listing is an open directory whose entries are read in one piece at the first readdir and again after a rewind, so
// that one pass is consistent.
//
// Entries come in the order of a hash of their names, and that is their offset: the next server, which has to read the
// directory again, goes on behind the last entry that was shown, whatever was made or removed meanwhile.
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
	if e := l.fill(ctx); e != 0 {
		return nil, e
	}
	if l.next >= len(l.entries) {
		return nil, 0
	}
	d := l.entries[l.next]
	l.next++
	return &d, 0
}

// fill reads the directory if that was not done; l.mu is held.
func (l *listing) fill(ctx context.Context) syscall.Errno {
	if l.read {
		return 0
	}
	entries, e := l.tree.entries(ctx)
	if e != 0 {
		return e
	}
	if !l.tree.memory.take(len(entries) * entrySize) {
		return syscall.ENFILE
	}
	for i := range entries {
		entries[i].Off = cursor(entries[i].Name)
	}
	slices.SortFunc(entries, func(a, b fuse.DirEntry) int { return cmp.Compare(a.Off, b.Off) })
	l.entries, l.read = entries, true
	return 0
}

// cursor is an entry's offset: never 0, which is the beginning, and positive for the kernel.
func cursor(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return max(h.Sum64()>>2, 1)
}

// Seekdir implements fs.FileSeekdirer.
func (l *listing) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	l.mu.Lock()
	defer l.mu.Unlock()
	if off == 0 {
		l.drop()
		return 0
	}
	if e := l.fill(ctx); e != 0 {
		return e
	}
	i, found := slices.BinarySearchFunc(l.entries, off, func(d fuse.DirEntry, off uint64) int { return cmp.Compare(d.Off, off) })
	if found {
		i++
	}
	l.next = i
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
