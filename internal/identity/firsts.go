package identity

import (
	"maps"
	"os"
	"runtime"
	"sync"
	"time"
)

// firsts remembers containers' first processes, so that not every member of a cgroup has to be looked at each time.
//
// What is remembered must not hide the contradiction that a search would find: a second first process. Whether a process
// is the first of its namespace, and of which, is settled when it is made. So while the process that was found lives, and
// the list that it was found in has the same numbers, a search would find it again, and no other. Only a number in that
// list that came to mean another process meanwhile could be one; keptFor bounds that. Lists of other hierarchies need no
// look: whoever came there meanwhile without being in the container's cgroup in the same ones as its members has other
// cgroups, and is looked for on its own; what contradicts then is forgotten for all.
type firsts struct {
	mu sync.Mutex
	of map[string]found // by the caller's cgroups, as /proc has them
}

// found is a first process, and the list of members that it was found in.
type found struct {
	candidate
	dir, list string
	at        time.Time
}

const (
	keptFor   = 10 * time.Second
	maxFirsts = 256 // with more, all are looked for again: each keeps a descriptor
)

func (c found) expired() bool { return time.Since(c.at) > keptFor }

// recall returns what a search would find, unless that takes a search.
func (f *firsts) recall(p proc, cgroups string) (candidate, bool) {
	f.mu.Lock()
	known, ok := f.of[cgroups]
	f.mu.Unlock()
	if !ok || cgroups == "" || known.expired() {
		// Fail closed: a subject that Resolve has not made has no cgroups to be known by.
		return candidate{}, false
	}
	list, err := readMembers(known.dir)
	if err != nil || list != known.list {
		return candidate{}, false
	}
	// The entry is of that process and no other: without it there is nothing to be found.
	_, err = known.entry(p).stat("stat")
	runtime.KeepAlive(known.held)
	return known.candidate, err == nil
}

// keep remembers what a search found, as far as it still is so of one and the same process.
func (f *firsts) keep(p proc, cgroups string, c found) {
	f.mu.Lock()
	before := f.of[cgroups]
	f.mu.Unlock()
	if c.held = before.holding(p, c.candidate); c.held == nil {
		c.held = hold(p, c.candidate)
	}
	if c.held == nil {
		return
	}
	c.at = time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.of, func(_ string, c found) bool { return c.expired() }) // whose containers may have ended
	if f.of == nil || len(f.of) >= maxFirsts {
		f.of = map[string]found{}
	}
	f.of[cgroups] = c
}

// forget has everybody's looked for again: a contradiction may be in what is remembered.
func (f *firsts) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.of)
}

// holding returns the open entry that is there already, nil when it is of another process. A container whose members
// come and go is searched each time, and must not take a descriptor each time.
func (c found) holding(p proc, now candidate) *os.File {
	if c.held == nil || c.pid != now.pid || c.ns != now.ns {
		return nil
	}
	if _, err := c.entry(p).stat("stat"); err != nil {
		return nil
	}
	return c.held
}

// hold opens the entry of a process that still is what a search found; else it returns nil.
func hold(p proc, c candidate) *os.File {
	e, err := p.open(c.pid)
	if err != nil {
		return nil
	}
	held := os.NewFile(uintptr(e.fd), e.path) // closed when nobody has it any more
	if ns, err := e.pidNamespace(); err != nil || ns != c.ns || !e.firstInNamespace() {
		_ = held.Close()
		return nil
	}
	return held
}
