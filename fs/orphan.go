package fs

import (
	"context"
	"fmt"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/ledger"
)

var _ fusefs.NodeOnForgetter = (*stateNode)(nil)

const regular = syscall.S_IFREG

// maxOrphans bounds the descriptors that are kept for one tree: their places are shared by all trees.
const maxOrphans = 64

var errTooMany = fmt.Errorf("the tree has %d already", maxOrphans)

// orphanName is what the descriptor of a file without a name is kept as.
func orphanName(k ledger.Key, tree string) string {
	return fmt.Sprintf("file-%d-%d-%s", k.Ino, k.Gen, tree)
}

// orphanOf takes such a name apart.
func orphanOf(name string) (k ledger.Key, tree string, ok bool) {
	n, _ := fmt.Sscanf(name, "file-%d-%d-%s", &k.Ino, &k.Gen, &tree)
	k.Type = regular
	return k, tree, n == 3
}

// forgot drops what is kept of a file that this process has not seen.
func (c *Config) forgot(n *ledger.Node) { c.dropOrphan(n.Key) }

// dropOrphan lets go of a file's descriptor, whichever tree it is of.
func (c *Config) dropOrphan(k ledger.Key) {
	for _, name := range c.Orphans.Names() {
		if kept, _, ok := orphanOf(name); ok && kept == k {
			c.Orphans.Drop(name)
		}
	}
}

// orphans counts what is kept for the tree.
func (t *treeNode) orphans() (n int) {
	for _, name := range t.cfg.Orphans.Names() {
		if _, tree, ok := orphanOf(name); ok && tree == t.name {
			n++
		}
	}
	return n
}

// displacing runs do, which takes the name away from the file that has it. The file is pinned first, and if it is open
// its descriptor is kept: when the server dies there is no other way to it.
func (n *stateNode) displacing(name string, do func() syscall.Errno) syscall.Errno {
	return n.taking(name, func(s *stateNode) bool { return s.preserve(ifOpen) }, do)
}

// replacing is displacing for a name that goes to another file. Who looked the name up goes on with the file that it had,
// and is told to look again if there is no way to it; only once is the kernel told so for one open(2). So its descriptor
// is kept even if nobody has it open, for as long as the kernel knows the file.
func (n *stateNode) replacing(name string, do func() syscall.Errno) syscall.Errno {
	return n.taking(name, func(s *stateNode) bool { return s.preserve(ifKnown) }, do)
}

func (n *stateNode) taking(name string, preserve func(*stateNode) bool, do func() syscall.Errno) syscall.Errno {
	s := n.stateChild(name)
	if s == nil {
		return do()
	}
	unpin, kept := n.pin(name, s), preserve(s)
	e := do()
	if e == 0 {
		s.preserve(ifOpen) // opened meanwhile
		return 0
	}
	// It has its name still.
	if kept {
		n.tree.cfg.Orphans.Drop(s.orphanName())
	}
	if unpin != nil {
		unpin()
	}
	return e
}

// stateChild is the node that has a name in the directory, nil if none is known.
func (n *stateNode) stateChild(name string) *stateNode {
	ch := n.GetChild(name)
	if ch == nil {
		return nil
	}
	s, _ := ch.Operations().(*stateNode)
	return s
}

func (n *stateNode) key() ledger.Key {
	a := n.StableAttr()
	return ledger.Key{Ino: a.Ino, Gen: a.Gen, Type: a.Mode}
}

func (n *stateNode) orphanName() string { return orphanName(n.key(), n.tree.name) }

// use is what a file without a name is kept for.
type use int

const (
	ifOpen  use = iota // somebody has it open
	ifKnown            // the kernel knows it, and may ask for it
)

// preserve has the descriptor of a file kept until its last handle is closed, or the kernel forgets it. It reports
// whether it was not before.
func (n *stateNode) preserve(when use) (kept bool) {
	if n.tree.cfg.Orphans == nil || n.StableAttr().Mode != regular {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	name, isOpen := n.orphanName(), len(n.handles)+n.readers > 0
	if !isOpen && (when == ifOpen || n.forgotten || n.linked()) || n.tree.cfg.Orphans.Has(name) {
		return false
	}
	err := errTooMany
	if n.tree.orphans() < maxOrphans {
		err = n.keep(name)
	}
	if err != nil && isOpen {
		n.tree.cfg.Log.Warn("Deleted open file would not outlive the server", "tree", n.tree.name, "err", err)
	}
	return err == nil
}

// linked reports whether the pinned file has another name. The kernel may then remember it for long.
func (n *stateNode) linked() bool {
	var a fuse.Attr
	err := n.nameless.with(func(fd int) error { return describe(fd, nil, &a) })
	return err == nil && a.Nlink > 1
}

// OnForget implements fs.NodeOnForgetter: the kernel has no use for the file any more.
func (n *stateNode) OnForget() {
	n.mu.Lock()
	n.forgotten = true
	if n.StableAttr().Mode == regular {
		n.relinquish()
	}
	n.mu.Unlock()
	n.nameless.drop()
}

// keep has a descriptor of the file kept; n.mu is held.
func (n *stateNode) keep(name string) error {
	if len(n.handles) > 0 {
		return n.tree.cfg.Orphans.Keep(name, n.handles[0].fd())
	}
	return n.nameless.with(func(fd int) error { return n.tree.cfg.Orphans.Keep(name, fd) })
}

// preserveLate is preserve for a handle that was opened just now: who takes the name away pins the file and then looks
// for handles, perhaps before this one.
func (n *stateNode) preserveLate() {
	if n.nameless.file.Load() != nil {
		n.preserve(ifOpen)
	}
}

// relinquish drops what preserve kept if no handle of this process is open; n.mu is held. The kernel may have others,
// which an earlier process opened and nobody used since.
func (n *stateNode) relinquish() {
	c := n.tree.cfg
	if len(n.handles)+n.readers > 0 || c.Orphans == nil || c.Ledger == nil { // without a ledger nobody follows this server
		return
	}
	if c.Ledger.OpenHandles(c.Ledger.Find(n.key())) == 0 {
		c.Orphans.Drop(n.orphanName())
	}
}

// reviveOrphan makes the node of a file without a name, from the descriptor that an earlier server kept.
func (t *treeNode) reviveOrphan(ctx context.Context, n *ledger.Node, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	fd, ok := t.cfg.Orphans.Take(orphanName(n.Key, t.name))
	if !ok {
		return nil, syscall.ESTALE
	}
	var id fusefs.StableAttr
	if err := describe(fd, &id, &out.Attr); err != nil {
		_ = unix.Close(fd)
		return nil, fusefs.ToErrno(err)
	}
	s := &stateNode{tree: t}
	s.nameless.set(fd)
	return t.NewInode(ctx, s, id), 0
}

// reopenOrphan opens a file that lost its name after its node was revived.
func (n *stateNode) reopenOrphan(flags uint32) (int, error) {
	if n.tree.cfg.Orphans == nil {
		return -1, unix.ESTALE
	}
	kept, ok := n.tree.cfg.Orphans.Take(n.orphanName())
	if !ok {
		return -1, unix.ESTALE
	}
	defer unix.Close(kept)
	return unix.Open(procPath(kept), fileFlags(flags), 0)
}
