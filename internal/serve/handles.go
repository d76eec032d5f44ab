package serve

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// openOnce are the flags that mean something at the first open only.
const openOnce = syscall.O_CREAT | syscall.O_EXCL | syscall.O_TRUNC | syscall.O_NOCTTY

// opened gives an open that the file system granted its handle for the kernel. node is the kernel's id.
func (s *shim) opened(node, unique uint64, flags uint32, dir bool, out *fuse.OpenOut) fuse.Status {
	var object uint32
	out.OpenFlags, object = splitObject(out.OpenFlags)
	if out.Fh == 0 {
		return fuse.OK
	}
	fh, err := s.ledger.Open(ledger.Handle{Node: node, Flags: flags &^ openOnce, Object: object, Dir: dir}, plain(unique))
	if err != nil {
		s.log.Error("Handle cannot be noted", "err", err)
		id, _ := s.resolve(node)
		s.takeBack(id, out.Fh, dir)
		return fuse.Status(syscall.ENFILE)
	}
	s.openMu.Lock()
	s.open[fh] = out.Fh
	s.openMu.Unlock()
	out.Fh = fh
	return fuse.OK
}

// takeBack closes what the file system opened. Both numbers are the file system's.
func (s *shim) takeBack(node, fh uint64, dir bool) {
	in := &fuse.ReleaseIn{InHeader: fuse.InHeader{NodeId: node}, Fh: fh}
	if dir {
		s.fs.ReleaseDir(in)
	} else {
		s.fs.Release(nil, in)
	}
}

// handle returns the file system's handle for the kernel's, which it opens anew if an earlier process had it.
func (s *shim) handle(inner, fh uint64) (uint64, fuse.Status) {
	if fh == 0 {
		return 0, fuse.OK
	}
	s.openMu.RLock()
	got, ok := s.open[fh]
	s.openMu.RUnlock()
	if ok {
		return got, fuse.OK
	}
	s.nodes.reviving.Lock()
	defer s.nodes.reviving.Unlock()
	return s.reopen(inner, fh)
}

// reopen opens a handle of an earlier process; nodes.reviving is held.
func (s *shim) reopen(inner, fh uint64) (uint64, fuse.Status) {
	s.openMu.RLock()
	got, ok := s.open[fh]
	s.openMu.RUnlock()
	if ok {
		return got, fuse.OK
	}
	h, ok := s.ledger.Handle(fh)
	n, known := s.ledger.Node(h.Node)
	if !ok || !known {
		return 0, estale
	}
	r := begin(&Revival{Node: n, Object: h.Object})
	defer r.end()
	in := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: inner}, Flags: h.Flags}
	var out fuse.OpenOut
	var st fuse.Status
	if h.Dir {
		st = s.fs.OpenDir(r.done, in, &out)
	} else {
		st = s.fs.Open(r.done, in, &out)
	}
	if st != fuse.OK {
		s.log.Debug("Open file cannot be opened again", "node", n.String(), "status", st)
		return 0, estale
	}
	s.openMu.Lock()
	_, wanted := s.ledger.Handle(fh)
	if wanted {
		s.open[fh] = out.Fh
	}
	s.openMu.Unlock()
	if !wanted { // closed meanwhile: its name goes, nobody uses it
		s.takeBack(inner, out.Fh, h.Dir)
		return 0, estale
	}
	return out.Fh, fuse.OK
}

// beginOpen is begin for a request on an open file or directory, whose handle it translates too.
func (s *shim) beginOpen(h *fuse.InHeader, fh *uint64) (r request, st fuse.Status) {
	if r, st = s.begin(h); st != fuse.OK {
		return r, st
	}
	outer := *fh
	if *fh, st = s.handle(h.NodeId, outer); st == estale {
		s.log.Warn("Open file is gone that a container holds", "node", r.node, "handle", outer, "opcode", h.Opcode)
	}
	return r, st
}

// reopenAll makes a node known and opens every handle of it, before its name goes: afterwards there would be nothing to
// find and to open.
func (s *shim) reopenAll(n *ledger.Node) {
	if n == nil {
		return
	}
	inner, st := s.resolve(n.ID)
	if st != fuse.OK || s.ledger.OpenHandles(n.ID) == 0 {
		return
	}
	var fhs []uint64
	s.ledger.Handles(func(fh uint64, h ledger.Handle, _ uint64) {
		if h.Node == n.ID && !h.Dir {
			fhs = append(fhs, fh)
		}
	})
	for _, fh := range fhs {
		_, _ = s.handle(inner, fh)
	}
}

// dropUnanswered forgets a handle that an earlier process opened for a request whose answer never arrived.
func (s *shim) dropUnanswered(unique uint64) {
	var drop []uint64
	s.ledger.Handles(func(fh uint64, _ ledger.Handle, by uint64) {
		if by == unique {
			drop = append(drop, fh)
		}
	})
	for _, fh := range drop {
		_, _ = s.released(fh)
	}
}

// abandon forgets the handles of a node that the kernel has given back. It has none then; those that are noted were
// opened for a caller that was killed while an earlier server died, and nobody ever got them.
func (s *shim) abandon(n *ledger.Node, b *bound) {
	if s.ledger.OpenHandles(n.ID) == 0 {
		return
	}
	var fhs []uint64
	s.ledger.Handles(func(fh uint64, h ledger.Handle, _ uint64) {
		if h.Node == n.ID {
			fhs = append(fhs, fh)
		}
	})
	for _, fh := range fhs {
		h, was := s.ledger.Release(fh)
		s.openMu.Lock()
		inner, opened := s.open[fh]
		delete(s.open, fh)
		s.openMu.Unlock()
		switch {
		case opened && b != nil:
			s.takeBack(b.inner, inner, h.Dir)
		case was && s.closed != nil:
			s.closed(h, n)
		}
	}
}

// released forgets a handle and returns the file system's; ok is false when this process never opened it, or the
// request came twice. The file system then hears what it was: an earlier process may have left something for it.
func (s *shim) released(fh uint64) (inner uint64, ok bool) {
	h, was := s.ledger.Release(fh)
	s.openMu.Lock()
	inner, ok = s.open[fh]
	delete(s.open, fh)
	s.openMu.Unlock()
	if n, known := s.ledger.Node(h.Node); was && known && !ok && s.closed != nil {
		s.closed(h, n)
	}
	return inner, ok
}

// Release implements fuse.RawFileSystem.
func (s *shim) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	token := s.pace.begin()
	defer s.pace.end(token)
	if inner, ok := s.released(in.Fh); ok {
		in.NodeId, _ = s.resolve(in.NodeId)
		in.Fh = inner
		s.fs.Release(cancel, in)
	}
}

// ReleaseDir implements fuse.RawFileSystem.
func (s *shim) ReleaseDir(in *fuse.ReleaseIn) {
	token := s.pace.begin()
	defer s.pace.end(token)
	if inner, ok := s.released(in.Fh); ok {
		in.NodeId, _ = s.resolve(in.NodeId)
		in.Fh = inner
		s.fs.ReleaseDir(in)
	}
}
