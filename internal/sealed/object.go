package sealed

import (
	"slices"
	"sync/atomic"
)

// NewID returns a number that no object has had, at most 24 bits: it travels in places where no more fits. It comes
// again after 16 million, which no object outlives.
func (a *Arena) NewID() uint64 {
	for {
		if id := atomic.AddUint64(a.word(wordNextID), 1) & (1<<24 - 1); id != 0 {
			return id
		}
	}
}

// Put stores an object in place of the one with that kind and id. A reader, or a server that comes after a crash,
// finds the old one or the new one.
func (a *Arena) Put(k Kind, id uint64, meta, body []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := max(1, (len(meta)+len(body)+pageSize-1)/pageSize)
	page, ok := a.find(n)
	if !ok || len(a.spare) == 0 {
		return ErrFull
	}
	e := a.spare[len(a.spare)-1]
	a.spare = a.spare[:len(a.spare)-1]
	a.mark(page, n, true)
	*a.word(wordSeq)++
	*a.word32(e + entryKind), *a.word(e + entryID), *a.word(e + entrySeq) = uint32(k), id, *a.word(wordSeq)
	*a.word32(e + entryPage), *a.word32(e + entryPages) = uint32(page), uint32(n)
	*a.word32(e + entryMeta), *a.word32(e + entryBody) = uint32(len(meta)), uint32(len(body))
	atomic.StoreUint32(a.word32(e+entryState), stateWipe)
	at := pagesAt + page*pageSize
	copy(a.mem[at:], meta)
	copy(a.mem[at+len(meta):], body)
	atomic.StoreUint32(a.word32(e+entryState), stateUsed)
	if old, ok := a.index[key{k, id}]; ok {
		a.release(old)
	}
	a.index[key{k, id}] = e
	return nil
}

// release ends an entry and wipes what it held; a.mu is held.
func (a *Arena) release(e int) {
	a.wipe(e)
	a.mark(int(*a.word32(e + entryPage)), int(*a.word32(e + entryPages)), false)
	a.spare = append(a.spare, e)
}

// wipe ends an entry; that it has to be wiped stands there until it is.
func (a *Arena) wipe(e int) {
	atomic.StoreUint32(a.word32(e+entryState), stateWipe)
	meta, body := a.parts(e)
	clear(meta)
	clear(body)
	atomic.StoreUint32(a.word32(e+entryState), stateFree)
}

// Delete wipes an object; there need not be one.
func (a *Arena) Delete(k Kind, id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, ok := a.index[key{k, id}]; ok {
		a.release(e)
		delete(a.index, key{k, id})
	}
}

// Get returns copies of an object's parts.
func (a *Arena) Get(k Kind, id uint64) (meta, body []byte, ok bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	e, ok := a.index[key{k, id}]
	if !ok {
		return nil, nil, false
	}
	m, b := a.parts(e)
	return slices.Clone(m), slices.Clone(b), true
}

// ReadAt copies from an object's body and returns how much; 0 behind its end, and when there is no such object.
func (a *Arena) ReadAt(k Kind, id uint64, dest []byte, off int64) int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	e, ok := a.index[key{k, id}]
	if !ok {
		return 0
	}
	_, body := a.parts(e)
	if off < 0 || off >= int64(len(body)) {
		return 0
	}
	return copy(dest, body[off:])
}

// Size is the length of an object's body, in bytes.
func (a *Arena) Size(k Kind, id uint64) int {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if e, ok := a.index[key{k, id}]; ok {
		return int(*a.word32(e + entryBody))
	}
	return 0
}

func (a *Arena) parts(e int) (meta, body []byte) {
	at := pagesAt + int(*a.word32(e + entryPage))*pageSize
	m, b := int(*a.word32(e + entryMeta)), int(*a.word32(e + entryBody))
	return a.mem[at : at+m], a.mem[at+m : at+m+b]
}

// IDs lists the objects of a kind, in order.
func (a *Arena) IDs(k Kind) []uint64 {
	a.mu.RLock()
	defer a.mu.RUnlock()
	var out []uint64
	for x := range a.index {
		if x.kind == k {
			out = append(out, x.id)
		}
	}
	slices.Sort(out)
	return out
}
