package fs

import (
	"context"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// settling are the locks that requests hold until go-fuse knows how they ended, by the channel that their context ends
// with: each request has its own.
type settling struct{ unlocks sync.Map }

// until has unlock called when the request is settled.
func (s *settling) until(ctx context.Context, unlock func()) { s.unlocks.Store(ctx.Done(), unlock) }

// has reports whether the request holds one.
func (s *settling) has(ctx context.Context) bool {
	_, ok := s.unlocks.Load(ctx.Done())
	return ok
}

func (s *settling) settle(cancel <-chan struct{}) {
	if unlock, ok := s.unlocks.LoadAndDelete(cancel); ok {
		unlock.(func())()
	}
}

// settledFS is go-fuse's file system, which tells when it knows how a request ended.
type settledFS struct {
	fuse.RawFileSystem
	settling *settling
}

// Lookup implements fuse.RawFileSystem.
func (f *settledFS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer f.settling.settle(cancel)
	return f.RawFileSystem.Lookup(cancel, h, name, out)
}

// ReadDirPlus implements fuse.RawFileSystem: a lookup of each entry.
func (f *settledFS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer f.settling.settle(cancel)
	return f.RawFileSystem.ReadDirPlus(cancel, in, out)
}

// Rename implements fuse.RawFileSystem.
func (f *settledFS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	defer f.settling.settle(cancel)
	return f.RawFileSystem.Rename(cancel, in, oldName, newName)
}

// still runs do with lock held, and keeps it until the request is settled if do succeeds. A request locks once: the
// entries of a listing are looked up one after the other.
func (t *treeNode) still(ctx context.Context, lock sync.Locker, do func() syscall.Errno) syscall.Errno {
	if t.cfg.settling.has(ctx) {
		return do()
	}
	lock.Lock()
	release := lock.Unlock
	defer func() { release() }() // also if do panics
	e := do()
	if e == 0 {
		t.cfg.settling.until(ctx, lock.Unlock)
		release = func() {}
	}
	return e
}
