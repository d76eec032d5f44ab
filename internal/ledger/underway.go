package ledger

import "sync/atomic"

// underwaySlots bounds the requests under way that are noted, for kernels that cannot send a request again.
const underwaySlots = 256

func (l *Ledger) underway(i uint64) *uint64 { return l.word(underwayAt + int(i%underwaySlots)*8) }

// Underway notes that a request was begun.
func (l *Ledger) Underway(unique uint64) {
	for {
		old := atomic.LoadUint64(l.word(wordHighest))
		if old >= unique || atomic.CompareAndSwapUint64(l.word(wordHighest), old, unique) {
			break
		}
	}
	for i := range uint64(underwaySlots) {
		if atomic.CompareAndSwapUint64(l.underway(unique/2+i), 0, unique) {
			return
		}
	}
}

// Answered notes that it ended.
func (l *Ledger) Answered(unique uint64) {
	for i := range uint64(underwaySlots) {
		if atomic.CompareAndSwapUint64(l.underway(unique/2+i), unique, 0) {
			return
		}
	}
}

// Lost returns the requests that a server had begun and not ended when it died, which are then no longer noted, and the
// highest unique id that any had.
func (l *Ledger) Lost() (begun []uint64, highest uint64) {
	for i := range uint64(underwaySlots) {
		if u := atomic.SwapUint64(l.underway(i), 0); u != 0 {
			begun = append(begun, u)
		}
	}
	return begun, atomic.LoadUint64(l.word(wordHighest))
}
