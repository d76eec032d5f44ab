package serve

import (
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// rootID is the kernel's and the file system's id of the root.
const rootID = 1

// bound is a node that this process has met.
type bound struct {
	node  *ledger.Node
	inner uint64        // the file system's id of it
	refs  atomic.Uint64 // lookups that the file system has counted
}

// nodes translates the kernel's node ids into the file system's.
type nodes struct {
	mu    sync.RWMutex
	byID  map[uint64]*bound
	inner map[uint64]*bound

	// reviving is held for a revival, one at a time, and shared by requests that take a name away: a name that a
	// revival has just looked up must not go before the file system knows it.
	reviving sync.RWMutex
}

func newNodes() *nodes { return &nodes{byID: map[uint64]*bound{}, inner: map[uint64]*bound{}} }

func (n *nodes) get(id uint64) (inner uint64, ok bool) {
	n.mu.RLock()
	b := n.byID[id]
	n.mu.RUnlock()
	if b == nil {
		return 0, false
	}
	return b.inner, true
}

// resolve returns the file system's id of a node, which it makes anew if an earlier process knew it.
func (s *shim) resolve(id uint64) (uint64, fuse.Status) {
	if id == rootID {
		return rootID, fuse.OK
	}
	if inner, ok := s.nodes.get(id); ok {
		return inner, fuse.OK
	}
	s.nodes.reviving.Lock()
	defer s.nodes.reviving.Unlock()
	return s.revive(id, 0)
}

// maxDepth bounds the way up to the root.
const maxDepth = 512

// revive makes a node known to the file system again; nodes.reviving is held.
func (s *shim) revive(id uint64, depth int) (uint64, fuse.Status) {
	if id == rootID {
		return rootID, fuse.OK
	}
	if inner, ok := s.nodes.get(id); ok {
		return inner, fuse.OK
	}
	n, ok := s.ledger.Node(id)
	if !ok || depth > maxDepth {
		s.log.Warn("Kernel asks for a node that is not known", "node", id, "depth", depth)
		return 0, fuse.Status(syscall.ESTALE)
	}
	if inner, ok := s.reviveNames(n, depth); ok {
		return inner, fuse.OK
	}
	if inner, ok := s.reviveOrphan(n, depth); ok {
		return inner, fuse.OK
	}
	s.log.Info("File is gone that a container knows", "node", n.String())
	return 0, fuse.Status(syscall.ESTALE)
}

// reviveNames makes a node known under each of its names: when one is removed the file system has to know the others.
func (s *shim) reviveNames(n *ledger.Node, depth int) (inner uint64, ok bool) {
	for _, at := range s.ledger.Names(n) {
		if found, there := s.reviveAt(n, at, depth); there {
			inner, ok = found, true
		}
	}
	return inner, ok
}

// reviveAt looks for the node under one of its names.
func (s *shim) reviveAt(n *ledger.Node, at ledger.Name, depth int) (uint64, bool) {
	parent, st := s.revive(at.Parent, depth+1)
	if st != fuse.OK {
		return 0, false
	}
	return s.reviveIn(parent, at.Name, begin(&Revival{Node: n}))
}

// reviveOrphan asks the node's tree for a file without a name. A slash is in no name that the kernel can send.
func (s *shim) reviveOrphan(n *ledger.Node, depth int) (uint64, bool) {
	if n.Tree == n.ID {
		return 0, false
	}
	tree, st := s.revive(n.Tree, depth+1)
	if st != fuse.OK {
		return 0, false
	}
	return s.reviveIn(tree, "/"+n.String(), begin(&Revival{Node: n, Orphan: true}))
}

func (s *shim) reviveIn(parent uint64, name string, r *Revival) (uint64, bool) {
	defer r.end()
	var out fuse.EntryOut
	if st := s.fs.Lookup(r.done, &fuse.InHeader{NodeId: parent}, name, &out); st != fuse.OK || out.NodeId == 0 {
		return 0, false
	}
	if keyOf(&out) != r.Node.Key { // another file has the name now
		s.release(out.NodeId)
		return 0, false
	}
	if !s.bindAlive(r.Node, out.NodeId) { // the kernel gave it back meanwhile
		s.release(out.NodeId)
		return 0, false
	}
	return out.NodeId, true
}

// release gives back a lookup of a node that the kernel did not ask for.
func (s *shim) release(inner uint64) {
	s.nodes.mu.Lock()
	b := s.nodes.inner[inner]
	if b != nil {
		b.refs.Add(1) // it goes with the node's own
	}
	s.nodes.mu.Unlock()
	if b == nil {
		s.fs.Forget(inner, 1)
	}
}

// bindAlive is bind for a node that the kernel still knows.
func (s *shim) bindAlive(n *ledger.Node, inner uint64) bool {
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	if now, ok := s.ledger.Node(n.ID); !ok || now != n {
		return false
	}
	s.bind(n, inner)
	return true
}

// bind notes one lookup of the file system's for a node; nodes.mu is held.
func (s *shim) bind(n *ledger.Node, inner uint64) {
	b := s.nodes.byID[n.ID]
	if b == nil {
		b = &bound{node: n, inner: inner}
		s.nodes.byID[n.ID], s.nodes.inner[inner] = b, b
	}
	b.refs.Add(1)
}

func keyOf(out *fuse.EntryOut) ledger.Key {
	return ledger.Key{Ino: out.Attr.Ino, Gen: out.Generation, Type: out.Attr.Mode & syscall.S_IFMT}
}

// enter gives an entry that the file system returned its id for the kernel, and counts the lookup. made says that the
// file did not exist before, so that a number that was used before means another file.
func (s *shim) enter(parent uint64, name string, out *fuse.EntryOut, made bool) fuse.Status {
	if out.NodeId == 0 {
		return fuse.OK // a negative entry
	}
	if s.met(parent, name, out) {
		return fuse.OK
	}
	n, met, st := s.note(parent, name, out, made)
	if st == fuse.OK && met && len(s.ledger.Names(n)) > 1 {
		// An earlier process gave it to the kernel, and this one meets it by a lookup of one of its names.
		s.nodes.reviving.Lock()
		defer s.nodes.reviving.Unlock()
		s.reviveNames(n, 0)
	}
	return st
}

// met is enter for a node that this process knows already, the usual case, under the shared lock.
func (s *shim) met(parent uint64, name string, out *fuse.EntryOut) bool {
	s.nodes.mu.RLock()
	defer s.nodes.mu.RUnlock()
	b := s.nodes.inner[out.NodeId]
	if b == nil || s.ledger.Again(b.node, ledger.Name{Parent: parent, Name: name}) != nil {
		return false
	}
	b.refs.Add(1)
	out.NodeId = b.node.ID
	return true
}

// note is enter without the node's other names; met says that the kernel knew the node and this process did not.
func (s *shim) note(parent uint64, name string, out *fuse.EntryOut, made bool) (n *ledger.Node, met bool, st fuse.Status) {
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	n = s.known(out, made)
	at := ledger.Name{Parent: parent, Name: name}
	var err error
	if n != nil {
		met = s.nodes.byID[n.ID] == nil
		err = s.ledger.Again(n, at)
	} else {
		n, err = s.ledger.Add(ledger.Node{
			Key: keyOf(out), Tree: s.treeOf(parent), Size: out.Attr.Size,
			MTime: int64(out.Attr.Mtime)*1e9 + int64(out.Attr.Mtimensec),
		}, at)
	}
	if err != nil {
		s.log.Error("Node cannot be noted", "err", err)
		s.fs.Forget(out.NodeId, 1)
		return nil, false, fuse.Status(syscall.ENFILE)
	}
	s.bind(n, out.NodeId)
	out.NodeId = n.ID
	return n, met, fuse.OK
}

// known is the node of an entry, nil for one that the kernel does not know; nodes.mu is held.
func (s *shim) known(out *fuse.EntryOut, made bool) *ledger.Node {
	if b := s.nodes.inner[out.NodeId]; b != nil {
		return b.node
	}
	if made {
		return nil
	}
	id := s.ledger.Find(keyOf(out))
	if id == 0 || s.nodes.byID[id] != nil { // not known, or the file system holds it for another
		return nil
	}
	n, _ := s.ledger.Node(id)
	return n
}

// treeOf is the tree that entries of a directory are in, 0 for those of the root: they are trees themselves.
func (s *shim) treeOf(parent uint64) uint64 {
	if n, ok := s.ledger.Node(parent); ok {
		return n.Tree
	}
	return 0
}

// Forget implements fuse.RawFileSystem.
func (s *shim) Forget(id, lookups uint64) {
	if id == rootID {
		return
	}
	n, _ := s.ledger.Node(id)
	s.nodes.mu.Lock()
	if !s.ledger.Forget(id, lookups) {
		s.nodes.mu.Unlock()
		return
	}
	b := s.nodes.byID[id]
	if b != nil {
		delete(s.nodes.byID, id)
		delete(s.nodes.inner, b.inner)
	}
	s.nodes.mu.Unlock()
	s.abandon(n, b)
	switch {
	case b != nil:
		s.fs.Forget(b.inner, b.refs.Load())
	case s.forgot != nil:
		s.forgot(n)
	}
}
