package serve

import (
	"encoding/binary"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// OpenDir implements fuse.RawFileSystem.
func (s *shim) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	r, st := s.begin(&in.InHeader)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if st := s.fs.OpenDir(cancel, in, out); st != fuse.OK {
		return st
	}
	return s.opened(r.node, in.Unique, in.Flags, true, out)
}

// ReadDir implements fuse.RawFileSystem.
func (s *shim) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.ReadDir(cancel, in, out)
}

// ReadDirPlus implements fuse.RawFileSystem: each entry is a lookup.
func (s *shim) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	if st := s.fs.ReadDirPlus(cancel, in, out); st != fuse.OK {
		return st
	}
	s.enterList(r.node, out.Bytes())
	return fuse.OK
}

// A struct fuse_direntplus: entry_out, inode, offset, length of the name, type, the name, filled up to 8 bytes.
const (
	direntName   = int(unsafe.Sizeof(fuse.EntryOut{})) + 24
	direntLength = int(unsafe.Sizeof(fuse.EntryOut{})) + 16
)

// enterList gives the entries of a READDIRPLUS answer their ids. One that cannot be noted is left to a lookup.
func (s *shim) enterList(parent uint64, list []byte) {
	for len(list) >= direntName {
		out := (*fuse.EntryOut)(unsafe.Pointer(&list[0]))
		n := int(binary.LittleEndian.Uint32(list[direntLength:]))
		if s.enter(parent, string(list[direntName:direntName+n]), out, false) != fuse.OK {
			*out = fuse.EntryOut{}
		}
		list = list[min(len(list), (direntName+n+7)&^7):]
	}
}

// FsyncDir implements fuse.RawFileSystem.
func (s *shim) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	r, st := s.beginOpen(&in.InHeader, &in.Fh)
	defer s.end(r)
	if st != fuse.OK {
		return st
	}
	return s.fs.FsyncDir(cancel, in)
}
