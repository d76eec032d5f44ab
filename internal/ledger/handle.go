package ledger

import (
	"fmt"
	"sync/atomic"
)

// maxHandles bounds the files and directories that are open at once.
const maxHandles = 1 << 16

// A handle's words.
const (
	handleSeq    = 0  // odd while in use; with the index it makes the number that the kernel gets
	handleFlags  = 4  // open(2) flags
	handleNode   = 8  // node id
	handleUnique = 16 // the request that opened it
	handleObject = 24 // sealed object that holds its content, 0 for none
	handleDir    = 28 // 1 for a directory
	handleSize   = 32
)

// Handle is an open file or directory.
type Handle struct {
	Node   uint64
	Flags  uint32
	Object uint32
	Dir    bool
}

func handleAt(i uint32) int { return handlesAt + int(i)*handleSize }

// Open notes an open file and returns the number for the kernel, which is never given again. unique is the request
// that opened it.
func (l *Ledger) Open(h Handle, unique uint64) (uint64, error) {
	l.handleMu.Lock()
	defer l.handleMu.Unlock()
	i, err := l.place()
	if err != nil {
		return 0, err
	}
	p := handleAt(i)
	seq := atomic.LoadUint32(l.half32(p + handleSeq))
	*l.half32(p + handleFlags), *l.word(p + handleNode), *l.word(p + handleUnique) = h.Flags, h.Node, unique
	*l.half32(p + handleObject), *l.half32(p + handleDir) = h.Object, 0
	if h.Dir {
		*l.half32(p + handleDir) = 1
	}
	l.opens[h.Node]++
	atomic.StoreUint32(l.half32(p+handleSeq), seq+1)
	return number(i, seq+1), nil
}

// place finds a free place; l.handleMu is held.
func (l *Ledger) place() (uint32, error) {
	if n := len(l.free); n > 0 {
		i := l.free[n-1]
		l.free = l.free[:n-1]
		return i, nil
	}
	used := l.word(wordHandles)
	if *used >= maxHandles {
		return 0, fmt.Errorf("%w: %d open files", ErrFull, maxHandles)
	}
	*used++
	return uint32(*used - 1), nil
}

// number is 0 for no handle: an odd seq never makes that.
func number(i, seq uint32) uint64 { return uint64(seq)<<32 | uint64(i) }

// Index is a handle's place, below 65536, for tables beside the ledger.
func Index(fh uint64) uint32 { return uint32(fh) & (maxHandles - 1) }

// Handle returns what an open handle is.
func (l *Ledger) Handle(fh uint64) (Handle, bool) {
	l.handleMu.Lock()
	defer l.handleMu.Unlock()
	return l.handle(fh)
}

func (l *Ledger) handle(fh uint64) (Handle, bool) {
	i, seq := uint32(fh), uint32(fh>>32)
	if i >= maxHandles || seq%2 == 0 || atomic.LoadUint32(l.half32(handleAt(i)+handleSeq)) != seq {
		return Handle{}, false
	}
	p := handleAt(i)
	return Handle{
		Node: *l.word(p + handleNode), Flags: *l.half32(p + handleFlags), Object: *l.half32(p + handleObject),
		Dir: *l.half32(p + handleDir) != 0,
	}, true
}

// Release forgets a handle; one that is not open, because the request came twice, is no error.
func (l *Ledger) Release(fh uint64) (Handle, bool) {
	l.handleMu.Lock()
	defer l.handleMu.Unlock()
	h, ok := l.handle(fh)
	if !ok {
		return h, false
	}
	i := uint32(fh)
	atomic.AddUint32(l.half32(handleAt(i)+handleSeq), 1)
	l.free = append(l.free, i)
	if l.opens[h.Node]--; l.opens[h.Node] <= 0 {
		delete(l.opens, h.Node)
	}
	return h, true
}

// OpenHandles counts the open handles of a file or directory.
func (l *Ledger) OpenHandles(node uint64) int {
	l.handleMu.Lock()
	defer l.handleMu.Unlock()
	return l.opens[node]
}

// Handles calls f for each open handle.
func (l *Ledger) Handles(f func(fh uint64, h Handle, unique uint64)) {
	l.handleMu.Lock()
	defer l.handleMu.Unlock()
	for i := range uint32(*l.word(wordHandles)) {
		fh := number(i, *l.half32(handleAt(i) + handleSeq))
		if h, ok := l.handle(fh); ok {
			f(fh, h, *l.word(handleAt(i) + handleUnique))
		}
	}
}

func (l *Ledger) loadHandles() error {
	l.free, l.opens = nil, map[uint64]int{}
	used := *l.word(wordHandles)
	if used > maxHandles {
		return fmt.Errorf("open connection state: %w: %d handles", ErrDamaged, used)
	}
	for i := range uint32(used) {
		p := handleAt(i)
		if *l.half32(p + handleSeq)%2 == 0 {
			l.free = append(l.free, i)
		} else {
			l.opens[*l.word(p + handleNode)]++
		}
	}
	return nil
}
