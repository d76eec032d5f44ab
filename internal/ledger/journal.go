package ledger

import "sync/atomic"

const (
	journalSlots = 4096
	slotSize     = 40
	slotUnique   = 0
	slotState    = 8  // begun, done with the errno, wanted again
	slotTries    = 16 // how often it was begun, weighted
	slotAux      = 24
	slotAt       = 32 // the newest unique when the slot was last written

	stateBegun = 1 << 32
	stateDone  = 2 << 32
	// stateAgain is added to that of a request that was sent again and has no answer yet.
	stateAgain = 4 << 32

	// probes bounds the search for a slot that no request under way uses.
	probes = 64

	// recent is how far back uniques are of requests that may be sent again although they have ended.
	recent = 2 * journalSlots / 4
	// forgotten is how far back those are whose callers died while they waited: nobody will ask for them.
	forgotten = 1 << 24
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
	newest := l.word(wordNewest)
	*newest = max(*newest, unique)
	first := int(unique>>1) % journalSlots
	use := -1
	for i := range probes {
		p := journalAt + (first+i)%journalSlots*slotSize
		if atomic.LoadUint64(l.word(p+slotUnique)) == unique {
			return p, true
		}
		if l.waiting(p, *newest) {
			continue
		}
		if use < 0 || *l.word(use + slotAt)+recent > *newest && *l.word(p + slotAt) < *l.word(use + slotAt) {
			use = p
		}
	}
	if use < 0 {
		use = journalAt + first*slotSize
	}
	return use, false
}

// waiting reports whether a slot is that of a request that has no answer yet; journalMu is held.
func (l *Ledger) waiting(p int, newest uint64) bool {
	state := atomic.LoadUint64(l.word(p + slotState))
	return (state == stateBegun || state&stateAgain != 0) && *l.word(p + slotAt)+forgotten > newest
}

// set changes a slot's state; journalMu is held.
func (l *Ledger) set(p int, state uint64) {
	*l.word(p + slotAt) = *l.word(wordNewest)
	atomic.StoreUint64(l.word(p+slotState), state)
}

// Resent notes that the kernel sends a request again. What is known of it is kept until Done, however many others there
// are meanwhile: it may have to wait for long.
func (l *Ledger) Resent(unique uint64) {
	l.journalMu.Lock()
	defer l.journalMu.Unlock()
	p, ok := l.slot(unique)
	if state := *l.word(p + slotState); ok && state&(stateBegun|stateDone) != 0 {
		l.set(p, state|stateAgain)
	}
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
	l.set(p, stateBegun)
}

// Done notes how it ended.
func (l *Ledger) Done(unique uint64, errno int32) {
	l.journalMu.Lock()
	defer l.journalMu.Unlock()
	if p, ok := l.slot(unique); ok {
		l.set(p, stateDone|uint64(uint32(errno)))
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
