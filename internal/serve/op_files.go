package serve

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Create implements fuse.RawFileSystem.
func (s *shim) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	made := true
	do := func() fuse.Status { return s.fs.Create(cancel, in, name, out) }
	st = s.once(&in.InHeader, 0, do, func(bool, uint64) fuse.Status {
		st := do()
		// EACCES: a new file's mode binds later opens only, and it was open already.
		if (st == exists || st == fuse.EACCES) && s.openMade(in, name, out) == fuse.OK {
			made = false
			return fuse.OK
		}
		return st
	})
	if st != fuse.OK {
		return st
	}
	return s.entered(r, name, in, out, made)
}

// openMade finds and opens the file that a CREATE made for which the answer was lost.
func (s *shim) openMade(in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if st := s.lookupMade(in.NodeId, name, &out.EntryOut); st != fuse.OK {
		return st
	}
	if out.Attr.Uid != in.Uid {
		// Fail closed: what the request made is its caller's, and this is opened without asking anybody.
		s.release(out.NodeId)
		return fuse.EACCES
	}
	r := begin(&Revival{})
	defer r.end()
	open := &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: out.NodeId}, Flags: in.Flags &^ openOnce}
	return s.fs.Open(r.done, open, &out.OpenOut)
}

// entered gives a created file its node id and handle.
func (s *shim) entered(r request, name string, in *fuse.CreateIn, out *fuse.CreateOut, made bool) fuse.Status {
	if st := s.enter(r.node, name, &out.EntryOut, made); st != fuse.OK {
		return st
	}
	return s.opened(out.NodeId, in.Unique, in.Flags, false, &out.OpenOut)
}

// Tmpfile implements fuse.RawFileSystem. Done twice it makes another file, and the first one is gone with the server.
func (s *shim) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if st := s.fs.Tmpfile(cancel, in, out); st != fuse.OK {
		return st
	}
	in.Flags &^= unix.O_TMPFILE
	return s.entered(r, "", in, out, true)
}

// Open implements fuse.RawFileSystem.
func (s *shim) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if st := s.fs.Open(cancel, in, out); st != fuse.OK {
		return st
	}
	return s.opened(r.node, in.Unique, in.Flags, false, out)
}

// Read implements fuse.RawFileSystem.
func (s *shim) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return nil, st
	}
	return s.fs.Read(cancel, in, buf)
}

// Write implements fuse.RawFileSystem.
func (s *shim) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return 0, st
	}
	return s.fs.Write(cancel, in, data)
}

// Writev implements fuse.RawFileSystem: go-fuse then calls Write, with one piece.
func (s *shim) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) {
	return 0, fuse.ENOSYS
}

// Flush implements fuse.RawFileSystem. It is what publishes a credential that was written in place; published again, it
// changes nothing.
func (s *shim) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	outer := in.Fh
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	switch st {
	case fuse.OK:
		return s.fs.Flush(cancel, in)
	case estale:
		return s.flushLost(outer)
	}
	return st
}

// flushLost answers for a file that is gone. What was written to a state file is on its way already, so close(2) need
// not fail; a login that was written in place is only published now.
func (s *shim) flushLost(fh uint64) fuse.Status {
	if h, ok := s.ledger.Handle(fh); ok && (h.Object == 0 || h.Flags&syscall.O_ACCMODE == syscall.O_RDONLY) {
		return fuse.OK
	}
	return fuse.EIO
}

// Fsync implements fuse.RawFileSystem.
func (s *shim) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.Fsync(cancel, in)
}

// Fallocate implements fuse.RawFileSystem.
func (s *shim) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.Fallocate(cancel, in)
}

// Lseek implements fuse.RawFileSystem.
func (s *shim) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.Lseek(cancel, in, out)
}

// CopyFileRange implements fuse.RawFileSystem.
func (s *shim) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	r, st := s.beginOpen(&in.InHeader, &in.FhIn)
	defer s.end(r)
	if st != fuse.OK {
		return 0, st
	}
	if in.NodeIdOut, st = s.resolve(in.NodeIdOut); st != fuse.OK {
		return 0, st
	}
	if in.FhOut, st = s.handle(in.NodeIdOut, in.FhOut); st != fuse.OK {
		return 0, st
	}
	return s.fs.CopyFileRange(cancel, in)
}

// Ioctl implements fuse.RawFileSystem: none, they would act with the daemon's rights.
func (s *shim) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
