package serve

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

const exists = fuse.Status(syscall.EEXIST)

// once carries out a changing request and notes how it ended. If an earlier server began it, again finds out what
// became of it; done says that it was carried out, and only the answer may have been lost.
func (s *shim) once(h *fuse.InHeader, aux uint64, do func() fuse.Status, again func(done bool, aux uint64) fuse.Status) fuse.Status {
	u := plain(h.Unique)
	if h.Unique&resent != 0 {
		switch was := s.ledger.Seen(u); {
		case was.Done && was.Errno != 0:
			s.ledger.Done(u, was.Errno) // its place in the journal is free again
			return fuse.Status(was.Errno)
		case was.Begun:
			st := again(was.Done, was.Aux)
			s.ledger.Done(u, int32(st))
			return st
		}
	}
	s.ledger.Start(u, aux)
	st := do()
	s.ledger.Done(u, int32(st))
	return st
}

// remove carries out a request that takes a name away. If a server died over it, a name that is gone was taken by this
// request, and a file that came to the name since stays.
func (s *shim) remove(h *fuse.InHeader, at ledger.Name, do func() fuse.Status) fuse.Status {
	var before uint64
	if !s.slow(at) {
		before = mark(s.ledger.Child(at.Parent, at.Name))
		s.nodes.reviving.RLock()
		defer s.nodes.reviving.RUnlock()
	}
	return s.once(h, before, do, func(done bool, before uint64) fuse.Status {
		if done || before != 0 && s.markAt(h.NodeId, at.Name) != before {
			return fuse.OK
		}
		if st := do(); st != fuse.ENOENT {
			return st
		}
		return fuse.OK
	})
}

// mark tells a file from another one in the journal, 0 for none.
func mark(n *ledger.Node) uint64 {
	if n == nil {
		return 0
	}
	return markOf(n.Key)
}

func markOf(k ledger.Key) uint64 { return max(k.Ino^k.Gen, 1) }

// markAt is the mark of the file that has a name now. parent is the file system's id.
func (s *shim) markAt(parent uint64, name string) uint64 {
	var out fuse.EntryOut
	if s.lookupMade(parent, name, &out) != fuse.OK {
		return 0
	}
	s.release(out.NodeId)
	return markOf(keyOf(&out))
}

// slow reports whether taking a name away may have to wait for others: no tree is to wait with it.
func (s *shim) slow(at ledger.Name) bool {
	dir, ok := s.ledger.Node(at.Parent)
	return ok && dir.Tree == dir.ID && s.virtual != nil && s.virtual(at.Name)
}

// create carries out a request that makes a name for a file of a kind (S_IFMT). There already, of that kind and the
// caller's own: it was this request.
func (s *shim) create(r request, h *fuse.InHeader, kind uint32, name string, out *fuse.EntryOut, do func() fuse.Status) fuse.Status {
	made := true
	st := s.once(h, 0, do, func(bool, uint64) fuse.Status {
		st := do()
		if st == exists && s.lookupOwn(h, kind, name, out) {
			made = false
			return fuse.OK
		}
		return st
	})
	if st != fuse.OK {
		return st
	}
	return s.enter(r.node, name, out, made)
}

// lookupOwn is lookupMade for what only this request can have made.
func (s *shim) lookupOwn(h *fuse.InHeader, kind uint32, name string, out *fuse.EntryOut) bool {
	if s.lookupMade(h.NodeId, name, out) != fuse.OK {
		return false
	}
	if out.Attr.Mode&syscall.S_IFMT != kind || out.Attr.Uid != h.Uid {
		s.release(out.NodeId)
		return false
	}
	return true
}

// lookupMade finds what a request made for which the answer was lost. The file system shows what is really there, to
// nobody in particular.
func (s *shim) lookupMade(parent uint64, name string, out *fuse.EntryOut) fuse.Status {
	r := begin(&Revival{})
	defer r.end()
	*out = fuse.EntryOut{}
	return s.fs.Lookup(r.done, &fuse.InHeader{NodeId: parent}, name, out)
}
