package ledger

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A record begins with its size (4 bytes), kind, a live byte, and two bytes that a name uses for its length. A name
// that is not live is gone, a node that is not has lost its key to a newer one.
const (
	recordKind = 4
	recordLive = 5
	recordName = 6
	recordID   = 8

	kindNode = 1
	kindName = 2
	kindMove = 3 // a name to which a rename is under way

	nodeIno     = 16
	nodeGen     = 24
	nodeLookups = 32
	nodeBytes   = 40
	nodeMTime   = 48
	nodeTree    = 56
	nodeType    = 64
	nodeSize    = 72

	nameParent = 16
	nameText   = 24

	// maxName is longer than NAME_MAX, for names that only the server itself gives.
	maxName = 1024

	// compactFrom is the size below which nothing is compacted, in bytes.
	compactFrom = 1 << 20
)

func nameSize(s string) int { return (nameText + len(s) + 7) &^ 7 }

func (l *Ledger) base() int    { return recordsAt + int(*l.word(wordHalf))*halfSize }
func (l *Ledger) end() *uint64 { return l.word(wordEnd0 + 8*int(*l.word(wordHalf))) }

// makeRoom has place for size more bytes of records and for names, of which it refuses those that Open would; l.mu is
// held.
func (l *Ledger) makeRoom(size int, names ...string) error {
	for _, s := range names {
		if len(s) > maxName {
			return fmt.Errorf("%w: name of %d bytes, at most %d", ErrFull, len(s), maxName)
		}
		size += nameSize(s)
	}
	end := int(*l.end())
	if end > compactFrom && end > 4*l.live || end+size > halfSize {
		l.compact()
		end = int(*l.end())
	}
	if end+size > halfSize {
		return fmt.Errorf("%w: %d nodes", ErrFull, len(l.nodes))
	}
	return nil
}

// append writes a record's frame and returns its place; commit makes it count.
func (l *Ledger) append(kind byte, size int, id uint64) int {
	p := l.base() + int(*l.end())
	binary.LittleEndian.PutUint32(l.mem[p:], uint32(size))
	l.mem[p+recordKind], l.mem[p+recordLive] = kind, 1
	*l.word(p + recordID) = id
	return p
}

func (l *Ledger) commit(size int) {
	atomic.AddUint64(l.end(), uint64(size))
	l.live += size
}

func (l *Ledger) appendNode(n *Node, lookups uint64) {
	p := l.append(kindNode, nodeSize, n.ID)
	*l.word(p + nodeIno), *l.word(p + nodeGen), *l.word(p + nodeLookups) = n.Key.Ino, n.Key.Gen, lookups
	*l.word(p + nodeBytes), *l.word(p + nodeMTime), *l.word(p + nodeTree) = n.Size, uint64(n.MTime), n.Tree
	*l.word(p + nodeType) = uint64(n.Key.Type)
	n.off = p
	l.commit(nodeSize)
}

func (l *Ledger) appendName(kind byte, id uint64, at Name) int {
	size := nameSize(at.Name)
	p := l.append(kind, size, id)
	binary.LittleEndian.PutUint16(l.mem[p+recordName:], uint16(len(at.Name)))
	*l.word(p + nameParent) = at.Parent
	copy(l.mem[p+nameText:], at.Name)
	l.commit(size)
	return p
}

// compact writes what still counts into the other half and goes on there; l.mu is held.
func (l *Ledger) compact() {
	was := *l.word(wordHalf)
	half := 1 - was
	// Until the half is switched a reader finds the old one untouched.
	*l.word(wordEnd0 + 8*int(half)) = 0
	at := recordsAt + int(half)*halfSize
	end := 0
	move := func(from, size int) int {
		copy(l.mem[at+end:at+end+size], l.mem[from:from+size])
		end += size
		return at + end - size
	}
	for _, n := range l.nodes {
		n.off = move(n.off, nodeSize)
		for i := range n.names {
			n.names[i].off = move(n.names[i].off, nameSize(n.names[i].Name.Name))
		}
		for i := range n.moving {
			n.moving[i].off = move(n.moving[i].off, nameSize(n.moving[i].Name.Name))
		}
	}
	*l.word(wordEnd0 + 8*int(half)) = uint64(end)
	atomic.StoreUint64(l.word(wordHalf), half)
	l.live = end
	l.releaseHalf(was)
}

// releaseHalf gives the memory of a half back. Failing that, it stays in use.
func (l *Ledger) releaseHalf(half uint64) {
	_ = unix.Fallocate(l.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(recordsAt+int(half)*halfSize), halfSize)
}

// load reads the records and handles into the index.
func (l *Ledger) load() error {
	l.nodes, l.keys, l.children = map[uint64]*Node{}, map[Key]uint64{}, map[child]uint64{}
	l.live = 0
	if *l.word(wordHalf) > 1 || *l.end() > halfSize {
		return fmt.Errorf("open connection state: %w: records", ErrDamaged)
	}
	base, end := l.base(), int(*l.end())
	for o := 0; o < end; {
		size := int(binary.LittleEndian.Uint32(l.mem[base+o:]))
		if size < nameText || size%8 != 0 || o+size > end {
			return fmt.Errorf("open connection state: %w: record at %d", ErrDamaged, o)
		}
		if err := l.loadRecord(base+o, size); err != nil {
			return err
		}
		o += size
	}
	return l.loadHandles()
}

func (l *Ledger) loadRecord(p, size int) error {
	id := *l.word(p + recordID)
	switch kind := l.mem[p+recordKind]; {
	case kind == kindNode && size == nodeSize:
		if *l.word(p + nodeLookups) == 0 {
			return nil
		}
		if id <= rootID || id >= *l.word(wordNextID) || l.nodes[id] != nil {
			return fmt.Errorf("open connection state: %w: node %d", ErrDamaged, id)
		}
		n := &Node{
			ID: id, Key: Key{*l.word(p + nodeIno), *l.word(p + nodeGen), uint32(*l.word(p + nodeType))},
			Size: *l.word(p + nodeBytes), MTime: int64(*l.word(p + nodeMTime)), Tree: *l.word(p + nodeTree), off: p,
		}
		l.nodes[id] = n
		if l.mem[p+recordLive] != 0 {
			l.keys[n.Key] = id
		}
		l.live += size
	case kind == kindName, kind == kindMove:
		return l.loadName(p, size, id)
	default:
		return fmt.Errorf("open connection state: %w: record of kind %d, %d bytes", ErrDamaged, kind, size)
	}
	return nil
}

func (l *Ledger) loadName(p, size int, id uint64) error {
	length := int(binary.LittleEndian.Uint16(l.mem[p+recordName:]))
	if length > maxName || nameText+length > size {
		return fmt.Errorf("open connection state: %w: name of %d bytes", ErrDamaged, length)
	}
	n := l.nodes[id]
	if n == nil || l.mem[p+recordLive] == 0 {
		return nil
	}
	at := Name{*l.word(p + nameParent), string(l.mem[p+nameText : p+nameText+length])}
	l.live += size
	if l.mem[p+recordKind] == kindMove {
		n.moving = append(n.moving, name{at, p})
		return nil
	}
	if old := l.nodes[l.children[at]]; old != nil {
		l.dropName(old, at)
	}
	n.names = append(n.names, name{at, p})
	l.children[at] = id
	return nil
}
