package serve

import (
	"syscall"
)

// Missed is a request that somebody else answered while no server did.
type Missed struct {
	// Opcode is FUSE's.
	Opcode uint32
	// ID is the node of a FORGET, the handle of a RELEASE or RELEASEDIR, and the unique id of any other request, which
	// an earlier server had read and which got an error for an answer.
	ID uint64
	// Count is how many lookups a FORGET takes back.
	Count uint64
}

// Opcodes that mean something of their own in Missed.
const (
	opForget     = 2
	opRelease    = 18
	opReleaseDir = 29
)

// Missed does what is left to do about a request. The order does not matter, nor when: neither a handle nor a unique id
// comes again, and lookups add up.
func (s *Server) Missed(m Missed) {
	if s.shim == nil {
		return
	}
	switch m.Opcode {
	case opForget:
		s.shim.Forget(m.ID, m.Count)
	case opRelease, opReleaseDir:
		s.shim.missedRelease(m.ID)
	default:
		s.shim.dropUnanswered(m.ID)
		s.shim.ledger.Done(m.ID, int32(syscall.EIO)) // nobody sends it again: its place in the journal is free
	}
}

// missedRelease closes a handle that the kernel has closed.
func (s *shim) missedRelease(fh uint64) {
	h, known := s.ledger.Handle(fh)
	if inner, opened := s.released(fh); opened && known {
		node, _ := s.nodes.get(h.Node)
		s.takeBack(node, inner, h.Dir)
	}
}
