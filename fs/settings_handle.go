package fs

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// maxSettings bounds what is read of a settings file, in bytes: as much as a tree may hold at all, less something.
// Settings says what becomes of larger ones, by what it is given of them.
const maxSettings = 8 << 20

// cacheFlags are the flags for an open state file. Readers of a settings file are shown other bytes than its writers,
// so neither have their pages cached.
func cacheFlags(special bool) uint32 {
	if special {
		return fuse.FOPEN_DIRECT_IO
	}
	return 0
}

// openShown is Open for a reader of a settings file, and for a handle on one that an earlier server gave, whatever name
// its file has by now. ok is false for all other opens, which go to the file itself.
func (n *stateNode) openShown(ctx context.Context, name string, flags uint32) (fh fusefs.FileHandle, ff uint32, e syscall.Errno, ok bool) {
	r := serve.Reviving(ctx)
	switch {
	case r != nil && r.Object != 0:
		size := n.tree.cfg.Sealed.Size(sealed.KindSnapshot, uint64(r.Object))
		n.tree.memory.owe(size)
		return n.shown(&snapshotHandle{tree: n.tree, object: uint64(r.Object), size: size}), fuse.FOPEN_DIRECT_IO, 0, true
	case name == "" || r != nil:
		return nil, 0, 0, false
	case flags&syscall.O_ACCMODE == syscall.O_RDONLY && flags&syscall.O_TRUNC == 0:
		fh, ff, e = n.openSnapshot(ctx, name)
		return fh, ff, e, true
	case n.tree.locked(name):
		return nil, 0, syscall.EROFS, true
	case flags&syscall.O_APPEND != 0 && n.showsMore(name):
		// Fail closed: the kernel takes the size that it was shown for the end, and would leave a gap.
		return nil, 0, syscall.EINVAL, true
	}
	return nil, 0, 0, false
}

// showsMore reports whether readers of a settings file are shown more than it has.
func (n *stateNode) showsMore(name string) bool {
	var a fuse.Attr
	if n.here(func(fd int) error { return describe(fd, nil, &a) }) != 0 {
		return true
	}
	size := a.Size
	return n.tree.showSize(name, &a, n.openSelf) != 0 || a.Size != size
}

// openSnapshot opens a settings file for reading. The bytes are those of this moment: whoever writes the file meanwhile
// changes nothing in what was looked at.
func (n *stateNode) openSnapshot(ctx context.Context, name string) (fusefs.FileHandle, uint32, syscall.Errno) {
	var own []byte
	e := n.tree.asCaller(ctx, func() syscall.Errno {
		fd, err := n.openSelf(unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK)
		if err != nil {
			return fusefs.ToErrno(err)
		}
		defer unix.Close(fd)
		own, err = readWhole(fd)
		return fusefs.ToErrno(err)
	})
	if e != 0 {
		return nil, 0, e
	}
	return n.snapshot(name, own)
}

// snapshot opens what is shown where the tree has written own. It is in sealed memory as credentials are: the next server
// goes on with these very bytes.
func (n *stateNode) snapshot(name string, own []byte) (fusefs.FileHandle, uint32, syscall.Errno) {
	t := n.tree
	shown, err := t.cfg.Settings.Show(t.name, name, own)
	if err != nil {
		return nil, 0, errno(err)
	}
	if !t.memory.take(len(shown)) {
		return nil, 0, syscall.ENFILE
	}
	h, err := newSnapshotHandle(t, shown)
	if err != nil {
		t.memory.give(len(shown))
		return nil, 0, syscall.ENFILE
	}
	return n.shown(h), t.cfg.withObject(fuse.FOPEN_DIRECT_IO, h.object), 0
}

// shownHandle is what a reader of a settings file holds.
type shownHandle struct {
	*snapshotHandle
	node *stateNode
}

// shown counts the handle, so that its file is kept if it loses its name: without a node there would be no handle.
func (n *stateNode) shown(h *snapshotHandle) shownHandle {
	n.mu.Lock()
	n.readers++
	n.mu.Unlock()
	n.preserveLate()
	return shownHandle{h, n}
}

// Release implements fs.FileReleaser.
func (h shownHandle) Release(ctx context.Context) syscall.Errno {
	e := h.snapshotHandle.Release(ctx)
	h.node.mu.Lock()
	defer h.node.mu.Unlock()
	h.node.readers--
	h.node.relinquish()
	return e
}

// readWhole reads an open file from its beginning, maxSettings and a byte at most.
func readWhole(fd int) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(backing(fd), 0, maxSettings+1))
}

// writeWhole makes content all that is in a file.
func writeWhole(fd int, content []byte) error {
	if _, err := backing(fd).WriteAt(content, 0); err != nil {
		return err
	}
	return unix.Ftruncate(fd, int64(len(content)))
}

// backing is an open descriptor as what package io takes.
type backing int

// ReadAt implements io.ReaderAt.
func (b backing) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(b), p[n:], off+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		}
		n += max(m, 0)
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (b backing) WriteAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pwrite(int(b), p[n:], off+int64(n))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return n, err
		}
		n += max(m, 0)
	}
	return n, nil
}

// shownSizes remembers for a moment how long the files are that are shown: stat(2) is frequent, and takes a look at the
// whole file. Its mu is a leaf.
type shownSizes struct {
	mu    sync.Mutex
	known map[string]shownSize
}

// shownSize is the length of what is shown of a file as it was.
type shownSize struct {
	key   sizeKey
	until time.Time
	size  uint64
}

// sizeKey tells states of a file apart.
type sizeKey struct{ ino, size, mtime, ctime uint64 }

func keyOfAttr(a *fuse.Attr) sizeKey {
	return sizeKey{a.Ino, a.Size, a.Mtime<<30 ^ uint64(a.Mtimensec), a.Ctime<<30 ^ uint64(a.Ctimensec)}
}

// of is the remembered size.
func (s *shownSizes) of(name string, k sizeKey) (size uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.known[name]
	return got.size, got.key == k && time.Now().Before(got.until)
}

func (s *shownSizes) note(name string, k sizeKey, size uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]shownSize{}
	}
	s.known[name] = shownSize{k, time.Now().Add(stateTimeout), size}
}

// showSize makes the size in the attributes of a regular file large enough for what readers are shown: programs other
// than the client read no more than that. It gets no smaller, for the kernel appends there. open opens the file.
func (t *treeNode) showSize(name string, a *fuse.Attr, open func(flags int) (int, error)) syscall.Errno {
	if a.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return 0
	}
	k := keyOfAttr(a)
	if size, ok := t.sizes.of(name, k); ok {
		a.Size = max(a.Size, size)
		return 0
	}
	// As the daemon: whoever sees the file may know how long it is.
	fd, err := open(unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK)
	if err != nil {
		return fusefs.ToErrno(err)
	}
	defer unix.Close(fd)
	own, err := readWhole(fd)
	if err != nil {
		return fusefs.ToErrno(err)
	}
	shown, err := t.cfg.Settings.Show(t.name, name, own)
	if err != nil {
		return errno(err)
	}
	a.Size = max(a.Size, uint64(len(shown)))
	t.sizes.note(name, k, uint64(len(shown)))
	return 0
}
