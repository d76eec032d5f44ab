package serve

import (
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// close(2) of a file that went with the last server succeeds, unless something was to be published by it.
func TestFlushLost(t *testing.T) {
	for _, c := range []struct {
		name string
		h    ledger.Handle
		want fuse.Status
	}{
		{"state file", ledger.Handle{Flags: syscall.O_RDWR}, fuse.OK},
		{"credential that was read", ledger.Handle{Flags: syscall.O_RDONLY, Object: 1}, fuse.OK},
		{"credential that was written", ledger.Handle{Flags: syscall.O_WRONLY, Object: 1}, fuse.EIO},
		{"credential that was read and written", ledger.Handle{Flags: syscall.O_RDWR, Object: 1}, fuse.EIO},
	} {
		s := newServers(t)
		s.write("file", "x")
		node := s.lookup("file")
		c.h.Node = node
		fh, err := s.ledger.Open(c.h, 4)
		if err != nil {
			t.Fatal(err)
		}
		s.remove("file")
		s.start()
		in := &fuse.FlushIn{InHeader: fuse.InHeader{NodeId: node, Unique: 6}, Fh: fh}
		if st := s.shim.Flush(nil, in); st != c.want {
			t.Errorf("%s: flush: %v, want %v", c.name, st, c.want)
		}
		if _, st := s.shim.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: node, Unique: 8}, Fh: fh, Size: 1}, make([]byte, 1)); st != estale {
			t.Errorf("%s: read: %v, want ESTALE", c.name, st)
		}
	}
	s := newServers(t)
	if st := s.shim.Flush(nil, &fuse.FlushIn{InHeader: header(6), Fh: 4711}); st != fuse.EIO {
		t.Errorf("a handle that nobody gave: %v, want EIO", st)
	}
}
