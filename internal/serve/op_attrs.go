package serve

import "github.com/hanwen/go-fuse/v2/fuse"

// GetAttr implements fuse.RawFileSystem.
func (s *shim) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if in.Flags()&fuse.FUSE_GETATTR_FH != 0 {
		if in.Fh_, st = s.handle(in.NodeId, in.Fh_); st != fuse.OK {
			return st
		}
	}
	return s.fs.GetAttr(cancel, in, out)
}

// SetAttr implements fuse.RawFileSystem. All values are absolute, so once more changes nothing.
func (s *shim) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if in.Valid&fuse.FATTR_FH != 0 {
		if in.Fh, st = s.handle(in.NodeId, in.Fh); st != fuse.OK {
			return st
		}
	}
	return s.fs.SetAttr(cancel, in, out)
}

// Readlink implements fuse.RawFileSystem.
func (s *shim) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	r, st := s.begin(h)
	defer s.end(r)
	if st != fuse.OK {
		return nil, st
	}
	return s.fs.Readlink(cancel, h)
}

// Access implements fuse.RawFileSystem.
func (s *shim) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.Access(cancel, in)
}

// StatFs implements fuse.RawFileSystem.
func (s *shim) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	r, st := s.begin(h)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.StatFs(cancel, h, out)
}
