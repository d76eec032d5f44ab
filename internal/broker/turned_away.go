package broker

import (
	"sync"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
)

const (
	// againAfter is how long a refusal that comes again is not recorded again: a walk over a directory asks many times.
	againAfter = time.Minute
	// maxTurnedAway bounds what is remembered of them. With more, some are recorded more often.
	maxTurnedAway = 4096
)

// refusal is what is recorded once in a while, with the reason that it had then: reasons name processes, so that there
// could be any number of them.
type refusal struct {
	container string
	uid       uint32
	tree      string
}

// refusals are when each was recorded last.
type refusals struct {
	mu   sync.Mutex
	last map[refusal]time.Time
}

// fresh reports whether a refusal is to be recorded now.
func (r *refusals) fresh(k refusal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.last[k]) < againAfter {
		return false
	}
	if r.last == nil || len(r.last) >= maxTurnedAway {
		r.last = map[refusal]time.Time{}
	}
	r.last[k] = now
	return true
}

// turnedAway records that somebody may not pass into a tree, or touch its files. Nothing depends on the record: what is
// asked for is refused with it or without.
func (b *Broker) turnedAway(c identity.Caller, s *identity.Subject, name string, reason error) {
	if s != nil && s.HostRoot && !s.Host && isRuntime(c) {
		return // a runtime that looks at what it mounts
	}
	k := refusal{uid: c.UID, tree: name}
	if s != nil {
		k.container = s.Container
	}
	if !b.refusals.fresh(k) {
		return
	}
	e := audit.Event{Action: audit.ActionEnter, Outcome: audit.Denied, Tree: name, Reason: reason.Error()}
	e.Describe(c, s, nil)
	_ = b.cfg.Audit.Record(e)
}
