package ledger

import "sync/atomic"

const (
	journalSlots = 4096
	slotSize     = 32
	slotUnique   = 0
	slotState    = 8  // begun or done, with the errno
	slotTries    = 16 // how often it was begun, weighted
	slotAux      = 24

	stateBegun = 1 << 32
	stateDone  = 2 << 32

	// probes bounds the search for a slot that no request under way uses.
	probes = 64

	// recent is how far back uniques are of requests that may come again although they have ended.
	recent = 2 * journalSlots / 4
)

// Outcome is what the journal knows of a request.
type Outcome struct {
	Begun bool // an earlier server began it
	Done  bool // and finished it, with Errno; the answer may not have reached the kernel
	Errno int32
	Aux   uint64 // what Start was given
}

// slot finds the request's place, or one to use for it; journalMu is held. Uniques count up by two. A request that hangs
// pushes others out of their places: one that has just ended must not lose its own, for its answer may be lost yet.
func (l *Ledger) slot(unique uint64) (off int, found bool) {
	first := int(unique>>1) % journalSlots
	use := -1
	for i := range probes {
		p := journalAt + (first+i)%journalSlots*slotSize
		if atomic.LoadUint64(l.word(p+slotUnique)) == unique {
			return p, true
		}
		if atomic.LoadUint64(l.word(p+slotState)) == stateBegun {
			continue
		}
		if use < 0 || *l.word(use + slotUnique)+recent > unique && *l.word(p + slotUnique) < *l.word(use + slotUnique) {
			use = p
		}
	}
	if use < 0 {
		use = journalAt + first*slotSize
	}
	return use, false
}

// Seen returns what an earlier server did about a request.
func (l *Ledger) Seen(unique uint64) Outcome {
	l.journalMu.Lock()
	defer l.journalMu.Unlock()
	p, ok := l.slot(unique)
	if !ok {
		return Outcome{}
	}
	state := atomic.LoadUint64(l.word(p + slotState))
	return Outcome{
		Begun: state&(stateBegun|stateDone) != 0, Done: state&stateDone != 0,
		Errno: int32(uint32(state)), Aux: *l.word(p + slotAux),
	}
}

// Start notes that a changing request is about to be carried out. aux is what a later server needs to tell whether it
// was.
func (l *Ledger) Start(unique, aux uint64) {
	l.journalMu.Lock()
	defer l.journalMu.Unlock()
	p, found := l.slot(unique)
	if !found {
		l.claim(p, unique)
	}
	*l.word(p + slotAux) = aux
	atomic.StoreUint64(l.word(p+slotState), stateBegun)
}

// Done notes how it ended.
func (l *Ledger) Done(unique uint64, errno int32) {
	l.journalMu.Lock()
	defer l.journalMu.Unlock()
	if p, ok := l.slot(unique); ok {
		atomic.StoreUint64(l.word(p+slotState), stateDone|uint64(uint32(errno)))
	}
}

// Try adds weight to what the request has cost in servers so far and returns the sum.
func (l *Ledger) Try(unique, weight uint64) uint64 {
	l.journalMu.Lock()
	defer l.journalMu.Unlock()
	p, found := l.slot(unique)
	if !found {
		l.claim(p, unique)
	}
	return atomic.AddUint64(l.word(p+slotTries), weight)
}

func (l *Ledger) claim(p int, unique uint64) {
	atomic.StoreUint64(l.word(p+slotState), 0)
	*l.word(p + slotTries) = 0
	atomic.StoreUint64(l.word(p+slotUnique), unique)
}
