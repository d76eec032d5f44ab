package serve

import (
	"log/slog"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// resent marks the unique id of a request that the kernel sends again.
const resent = 1 << 63

// maxTries bounds how much a request may have cost: three servers that ended by themselves while it was under way, or
// twelve that nobody knows of how they ended. It is then answered with EIO, lest it end the next one too.
const (
	maxTries = 11
	// BlameSelf is the weight of a server that ended by itself or was hung. One that was ended from outside says
	// nothing about its requests: BlameOther.
	BlameSelf    = 4
	BlameUnknown = 1
	BlameOther   = 0
)

// shim translates between the kernel's numbers and the file system's. What it does not override answers ENOSYS: the
// file system must never see a number of the kernel's.
type shim struct {
	fuse.RawFileSystem
	fs      fuse.RawFileSystem
	ledger  *ledger.Ledger
	log     *slog.Logger
	blame   uint64
	resends bool
	closed  func(ledger.Handle, *ledger.Node)
	forgot  func(*ledger.Node)
	virtual func(name string) bool

	pace  pace
	nodes *nodes

	openMu sync.RWMutex
	open   map[uint64]uint64 // the kernel's handle to the file system's
}

func newShim(cfg *Config, resends bool) *shim {
	return &shim{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), fs: cfg.FS, ledger: cfg.Ledger, log: cfg.Log,
		blame: cfg.Blame, resends: resends, closed: cfg.Closed, forgot: cfg.Forgot, virtual: cfg.Virtual, nodes: newNodes(), open: map[uint64]uint64{},
	}
}

// String implements fuse.RawFileSystem.
func (s *shim) String() string { return fsName }

// Init implements fuse.RawFileSystem.
func (s *shim) Init(server *fuse.Server) { s.fs.Init(server) }

// OnUnmount implements fuse.RawFileSystem.
func (s *shim) OnUnmount() { s.fs.OnUnmount() }

// request is one that is under way.
type request struct {
	node   uint64 // as the kernel names it
	unique uint64
	token  int
}

// begin counts a request and gives its header the file system's node id. end has to follow, whatever the status.
func (s *shim) begin(h *fuse.InHeader) (r request, st fuse.Status) {
	r = request{node: h.NodeId, unique: plain(h.Unique), token: s.pace.begin()}
	if !s.resends {
		s.ledger.Underway(r.unique)
	}
	if h.Unique&resent != 0 {
		s.ledger.Resent(r.unique) // first of all: what follows may take long
		s.dropUnanswered(r.unique)
		if s.blame > 0 && s.ledger.Try(r.unique, s.blame) > maxTries {
			s.log.Error("Request ended several servers; it is answered with EIO", "opcode", h.Opcode, "node", h.NodeId)
			return r, fuse.EIO
		}
	}
	h.NodeId, st = s.resolve(h.NodeId)
	return r, st
}

func (s *shim) end(r request) {
	if !s.resends {
		s.ledger.Answered(r.unique)
	}
	s.pace.end(r.token)
}

// plain is a request's unique id without the mark.
func plain(unique uint64) uint64 { return unique &^ resent }

const estale = fuse.Status(syscall.ESTALE)
