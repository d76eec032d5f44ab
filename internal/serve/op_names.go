package serve

import (
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// Lookup implements fuse.RawFileSystem.
func (s *shim) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	r, st := s.begin(h)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if st := s.fs.Lookup(cancel, h, name, out); st != fuse.OK {
		return st
	}
	return s.enter(r.node, name, out, false)
}

// Mknod implements fuse.RawFileSystem.
func (s *shim) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.create(r, &in.InHeader, in.Mode&syscall.S_IFMT, name, out, func() fuse.Status { return s.fs.Mknod(cancel, in, name, out) })
}

// Mkdir implements fuse.RawFileSystem.
func (s *shim) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.create(r, &in.InHeader, syscall.S_IFDIR, name, out, func() fuse.Status { return s.fs.Mkdir(cancel, in, name, out) })
}

// Symlink implements fuse.RawFileSystem.
func (s *shim) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	r, st := s.begin(h)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.create(r, h, syscall.S_IFLNK, name, out, func() fuse.Status { return s.fs.Symlink(cancel, h, target, name, out) })
}

// Link implements fuse.RawFileSystem. The file is not new, only its name is.
func (s *shim) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	old := in.Oldnodeid
	if in.Oldnodeid, st = s.resolve(old); st != fuse.OK {
		return st
	}
	do := func() fuse.Status { return s.fs.Link(cancel, in, name, out) }
	st = s.once(&in.InHeader, 0, do, func(bool, uint64) fuse.Status {
		if st := do(); st != exists {
			return st
		}
		return s.linked(in.NodeId, name, old, out)
	})
	if st != fuse.OK {
		return st
	}
	return s.enter(r.node, name, out, false)
}

// linked answers a repeated LINK whose name is there: it was made by this request if it is the file's.
func (s *shim) linked(parent uint64, name string, old uint64, out *fuse.EntryOut) fuse.Status {
	if st := s.lookupMade(parent, name, out); st != fuse.OK {
		return st
	}
	if n, ok := s.ledger.Node(old); !ok || n.Key != keyOf(out) {
		s.release(out.NodeId)
		return exists
	}
	return fuse.OK
}

// Unlink implements fuse.RawFileSystem.
func (s *shim) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r, st := s.begin(h)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	s.reopenAll(s.ledger.Child(r.node, name))
	at := ledger.Name{Parent: r.node, Name: name}
	st = s.remove(h, at, func() fuse.Status { return s.fs.Unlink(cancel, h, name) })
	if st == fuse.OK {
		s.ledger.Remove(at)
	}
	return st
}

// Rmdir implements fuse.RawFileSystem.
func (s *shim) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	r, st := s.begin(h)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	at := ledger.Name{Parent: r.node, Name: name}
	st = s.remove(h, at, func() fuse.Status { return s.fs.Rmdir(cancel, h, name) })
	if st == fuse.OK {
		s.ledger.Remove(at)
	}
	return st
}

// renameExchange is RENAME_EXCHANGE of renameat2(2).
const renameExchange = 2

// Rename implements fuse.RawFileSystem.
func (s *shim) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	from, to := ledger.Name{Parent: r.node, Name: oldName}, ledger.Name{Parent: in.Newdir, Name: newName}
	if in.Newdir, st = s.resolve(in.Newdir); st != fuse.OK {
		return st
	}
	s.reopenAll(s.ledger.Child(to.Parent, to.Name))
	do := func() fuse.Status { return s.fs.Rename(cancel, in, oldName, newName) }
	exchange := in.Flags&renameExchange != 0
	stay := s.moving(from, to, exchange)
	if exchange {
		st = s.exchange(in, from, do)
	} else {
		st = s.remove(&in.InHeader, from, do)
	}
	if st != fuse.OK {
		stay()
		return st
	}
	if err := s.ledger.Rename(from, to, exchange); err != nil {
		s.log.Error("Rename cannot be noted", "err", err)
	}
	return st
}

// moving notes where a rename may have brought its files if this server dies: whoever holds one of them, or something
// below, may ask for it before the kernel sends the rename again. stay takes the note back.
func (s *shim) moving(from, to ledger.Name, exchange bool) (stay func()) {
	type move struct {
		n  *ledger.Node
		to ledger.Name
	}
	moves := []move{{s.ledger.Child(from.Parent, from.Name), to}}
	if exchange {
		moves = append(moves, move{s.ledger.Child(to.Parent, to.Name), from})
	}
	moves = slices.DeleteFunc(moves, func(m move) bool { return m.n == nil })
	for _, m := range moves {
		if err := s.ledger.Moving(m.n, m.to); err != nil {
			s.log.Error("Rename cannot be noted", "err", err)
		}
	}
	return func() {
		for _, m := range moves {
			s.ledger.Stay(m.n, m.to)
		}
	}
}

// exchange has two names change places. Repeated, it would change them back, so the file that the first one had before
// tells whether it was done.
func (s *shim) exchange(in *fuse.RenameIn, from ledger.Name, do func() fuse.Status) fuse.Status {
	before := mark(s.ledger.Child(from.Parent, from.Name))
	s.nodes.reviving.RLock()
	defer s.nodes.reviving.RUnlock()
	return s.once(&in.InHeader, before, do, func(done bool, before uint64) fuse.Status {
		if done || s.markAt(in.NodeId, from.Name) != before {
			return fuse.OK
		}
		return do()
	})
}
