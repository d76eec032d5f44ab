package fs

import "sync/atomic"

// treeBudget bounds what the open handles and drafts of one tree may hold in the daemon's memory, in bytes: the
// clients of a tree must not be able to take it from the others.
const treeBudget = 32 << 20

// budget counts what a tree holds.
type budget struct{ held atomic.Int64 }

// take reserves n bytes, or nothing.
func (b *budget) take(n int) bool {
	if b.held.Add(int64(n)) > treeBudget {
		b.held.Add(-int64(n))
		return false
	}
	return true
}

// owe reserves n bytes whether there is room or not: an earlier server had reserved them.
func (b *budget) owe(n int) { b.held.Add(int64(n)) }

func (b *budget) give(n int) { b.held.Add(-int64(n)) }
