package ledger

import (
	"fmt"
	"slices"
)

// Key tells one file from every other that ever had its inode number.
type Key struct {
	Ino  uint64
	Gen  uint64
	Type uint32 // S_IFMT bits
}

// Node is a file that the kernel knows. Its fields do not change; names and lookups are the ledger's.
type Node struct {
	ID   uint64
	Key  Key
	Tree uint64 // id of the tree's top directory that it is in; its own for that directory
	// Size in bytes and MTime in nanoseconds are those of the first lookup. They matter for virtual files, whose
	// content never changes and is not shown any more after the next rotation.
	Size  uint64
	MTime int64

	off   int
	names []name
	// moving are names that it may have by now: a rename to them is under way, or was when a server died.
	moving []name
}

// Name is one place where a node is found.
type Name struct {
	Parent uint64
	Name   string
}

type name struct {
	Name
	off int
}

type child = Name

// Node returns what is known of an id.
func (l *Ledger) Node(id uint64) (*Node, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.nodes[id]
	return n, ok
}

// Find returns the id of a file that the kernel knows already, 0 for others.
func (l *Ledger) Find(k Key) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[k]
}

// Child returns the node that was last seen under a name, nil without one.
func (l *Ledger) Child(parent uint64, as string) *Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[l.children[Name{parent, as}]]
}

// Names lists the places of a node, the newest last, and then those to which a rename is under way. A deleted file has
// none.
func (l *Ledger) Names(n *Node) []Name {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Name, 0, len(n.names)+len(n.moving))
	for _, list := range [][]name{n.names, n.moving} {
		for _, x := range list {
			out = append(out, x.Name)
		}
	}
	return out
}

// Nodes counts what the kernel knows.
func (l *Ledger) Nodes() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.nodes)
}

// Add notes a file that the kernel hears of for the first time, with one lookup. An older file with the same key, which
// is gone by now, loses it.
func (l *Ledger) Add(n Node, at Name) (*Node, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n.ID = *l.word(wordNextID)
	if n.Tree == 0 {
		n.Tree = n.ID
	}
	if err := l.makeRoom(nodeSize, at.Name); err != nil {
		return nil, err
	}
	*l.word(wordNextID)++ // before the record: an id that was lost is not given again
	if old := l.nodes[l.keys[n.Key]]; old != nil {
		l.mem[old.off+recordLive] = 0
	}
	p := &n
	l.appendNode(p, 1)
	l.nodes[p.ID], l.keys[p.Key] = p, p.ID
	l.addName(p, at)
	return p, nil
}

// Again notes another lookup of a known file, perhaps under another name.
func (l *Ledger) Again(n *Node, at Name) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !n.has(at) {
		if err := l.makeRoom(0, at.Name); err != nil {
			return err
		}
		l.addName(n, at)
	}
	*l.word(n.off + nodeLookups)++
	return nil
}

// Forget takes n lookups away and reports whether the kernel has none left; the node is then gone.
func (l *Ledger) Forget(id, n uint64) (gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	node, ok := l.nodes[id]
	if !ok {
		return false
	}
	count := l.word(node.off + nodeLookups)
	if *count > n {
		*count -= n
		return false
	}
	for _, x := range slices.Clone(node.names) {
		l.dropName(node, x.Name)
	}
	for _, x := range slices.Clone(node.moving) {
		l.dropMove(node, x.Name)
	}
	*count = 0
	l.live -= nodeSize
	delete(l.nodes, id)
	if l.keys[node.Key] == id {
		delete(l.keys, node.Key)
	}
	return true
}

// Remove notes that a name is gone.
func (l *Ledger) Remove(at Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[l.children[at]]; n != nil {
		l.dropName(n, at)
	}
}

// Moving notes that a node is about to get another name, before it does: a server that dies then leaves both, and the
// next one looks for the file under both. Rename ends it, and Stay.
func (l *Ledger) Moving(n *Node, to Name) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nodes[n.ID] != n || slices.ContainsFunc(n.moving, func(x name) bool { return x.Name == to }) {
		return nil
	}
	if err := l.makeRoom(0, to.Name); err != nil {
		return err
	}
	n.moving = append(n.moving, name{to, l.appendName(kindMove, n.ID, to)})
	return nil
}

// Stay notes that the rename failed.
func (l *Ledger) Stay(n *Node, to Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropMove(n, to)
}

func (l *Ledger) dropMove(n *Node, to Name) {
	n.moving = slices.DeleteFunc(n.moving, func(x name) bool { return x.Name == to && l.erase(x) })
}

// erase has a name not count any more; l.mu is held.
func (l *Ledger) erase(x name) bool {
	l.mem[x.off+recordLive] = 0
	l.live -= nameSize(x.Name.Name)
	return true
}

// Rename notes a rename; with exchange the two names change places.
func (l *Ledger) Rename(from, to Name, exchange bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.makeRoom(0, from.Name, to.Name); err != nil {
		return err
	}
	moved, other := l.nodes[l.children[from]], l.nodes[l.children[to]]
	if moved != nil {
		l.dropName(moved, from)
	}
	if other != nil {
		l.dropName(other, to)
	}
	if moved != nil {
		l.addName(moved, to)
		l.dropMove(moved, to)
	}
	if other != nil && exchange {
		l.addName(other, from)
		l.dropMove(other, from)
	}
	return nil
}

func (n *Node) has(at Name) bool {
	return slices.ContainsFunc(n.names, func(x name) bool { return x.Name == at })
}

// addName makes at a place of n, and of no other node; l.mu is held and there is room.
func (l *Ledger) addName(n *Node, at Name) {
	if at.Name == "" {
		return // never had one: O_TMPFILE
	}
	if old := l.nodes[l.children[at]]; old != nil {
		l.dropName(old, at)
	}
	n.names = append(n.names, name{at, l.appendName(kindName, n.ID, at)})
	l.children[at] = n.ID
}

// dropName takes a place away from n; l.mu is held.
func (l *Ledger) dropName(n *Node, at Name) {
	n.names = slices.DeleteFunc(n.names, func(x name) bool { return x.Name == at && l.erase(x) })
	if l.children[at] == n.ID {
		delete(l.children, at)
	}
}

// String is for logs.
func (n *Node) String() string { return fmt.Sprintf("node %d (inode %d)", n.ID, n.Key.Ino) }
