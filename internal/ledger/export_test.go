package ledger

// Lookups is how often the kernel has looked a node up, 0 for one that is not there.
func (l *Ledger) Lookups(id uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[id]; n != nil {
		return *l.word(n.off + nodeLookups)
	}
	return 0
}

// Half is the half of the records in use: it changes when they are compacted.
func (l *Ledger) Half() uint64 { return *l.word(wordHalf) }

// Sizes that the tests fill.
const (
	MaxHandles   = maxHandles
	MaxName      = maxName
	MaxBlob      = blobMax
	JournalSlots = journalSlots
	Underways    = underwaySlots
	Total        = total
)
