package serve

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// What a keeper answered in place of a server leaves no node, no handle and no place in the journal behind.
func TestMissed(t *testing.T) {
	for _, next := range []bool{false, true} {
		s := newServers(t)
		s.write("file", "one")
		var closed int
		open := func(id uint64) uint64 {
			node := s.lookup("file")
			var out fuse.OpenOut
			if st := s.shim.Open(nil, &fuse.OpenIn{InHeader: fuse.InHeader{NodeId: node, Unique: id}}, &out); st != fuse.OK {
				t.Fatal(st)
			}
			return out.Fh
		}
		released, unanswered := open(10), uint64(12)
		open(unanswered)
		node := s.lookup("file")
		s.ledger.Start(14, 0)
		if next {
			s.start()
			s.shim.closed = func(ledger.Handle, *ledger.Node) { closed++ }
		}
		server := &Server{shim: s.shim}
		for _, m := range []Missed{{Opcode: opRelease, ID: released}, {Opcode: 14, ID: unanswered}, {Opcode: 9, ID: 14}} {
			server.Missed(m)
		}
		if n := s.ledger.OpenHandles(node); n != 0 {
			t.Errorf("%d handles are left", n)
		}
		if next && closed != 2 {
			t.Errorf("the file system heard of %d handles", closed)
		}
		if !s.ledger.Seen(14).Done {
			t.Error("the journal still waits for a request that nobody sends again")
		}
		server.Missed(Missed{Opcode: opForget, ID: node, Count: 2})
		if _, ok := s.ledger.Node(node); !ok {
			t.Error("a node is gone that the kernel has one lookup of")
		}
		server.Missed(Missed{Opcode: opForget, ID: node, Count: 1})
		if _, ok := s.ledger.Node(node); ok {
			t.Error("a forgotten node is left")
		}
	}
}
