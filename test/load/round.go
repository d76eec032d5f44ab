package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// round is one turn of a worker. The first step that fails ends it: every step
// after that does nothing, so that one failure is counted once, and a worker
// needs to ask ok only where it keeps state.
type round struct {
	lane *lane
	site *site
	bad  bool
	fds  []int // open descriptors that end with the round
}

// serial numbers the fresh names.
var serial atomic.Int64

// ok tells whether no step has failed so far.
func (r *round) ok() bool {
	return !r.bad
}

// end closes what a failed round left open.
func (r *round) end() {
	for _, fd := range r.fds {
		_ = unix.Close(fd) // the failure is counted already
	}
	r.fds = nil
}

// again returns another round of the same worker, independent of failures in
// this one. The caller ends it.
func (r *round) again() *round {
	return &round{lane: r.lane, site: r.site}
}

// path names a file in the directory worked on.
func (r *round) path(elem ...string) string {
	return filepath.Join(r.site.dir, filepath.Join(elem...))
}

// scratch names a file in the directory for this program's own files.
func (r *round) scratch(name string) string {
	return r.path("projects", "scratch", name)
}

// fresh is like scratch with a name never used before. The tilde keeps the
// changing part out of error texts.
func (r *round) fresh(name string) string {
	return r.scratch(fmt.Sprintf("%s~%s-%d", name, r.site.run, serial.Add(1)))
}

// nap sleeps between two steps.
func (r *round) nap(d time.Duration) {
	if r.ok() {
		time.Sleep(d)
	}
}

// try makes one call, which has to succeed.
func (r *round) try(step string, call func() error) {
	if r.bad {
		return
	}
	if err := r.lane.timed(step, call); err != nil {
		r.fail(step, "%s", errorText(err))
	}
}

// refused makes one call, which has to be answered with want.
func (r *round) refused(step string, want unix.Errno, call func() error) {
	if r.bad {
		return
	}
	switch err := r.lane.timed(step, call); {
	case err == nil:
		r.fail(step, "success instead of %s", unix.ErrnoName(want))
	case !errors.Is(err, want):
		r.fail(step, "%s instead of %s", errorText(err), unix.ErrnoName(want))
	}
}

// check fails the round unless holds.
func (r *round) check(holds bool, step, format string, args ...any) {
	if !holds {
		r.fail(step, format, args...)
	}
}

// fail counts a failure of step and ends the round, unless it has ended.
func (r *round) fail(step, format string, args ...any) {
	if r.bad {
		return
	}
	r.bad = true
	r.lane.countFailed(step, fmt.Sprintf(format, args...))
}

// same takes it as a lost write if got is not what was written.
func (r *round) same(step string, got, want []byte) {
	if r.bad || string(got) == string(want) {
		return
	}
	if len(got) != len(want) {
		r.lose(step, "%d bytes instead of %d", len(got), len(want))
		return
	}
	at := 0
	for got[at] == want[at] {
		at++
	}
	r.lose(step, "other content from byte %d on", at)
}

// lose counts a lost write and ends the round, unless it has ended.
func (r *round) lose(step, format string, args ...any) {
	if r.bad {
		return
	}
	r.bad = true
	r.lane.countLost(1, step, fmt.Sprintf(format, args...))
}

// named makes the name of a step from what it does and to which file, without
// the part of the file's name that changes from one round to the next.
func named(verb, path string) string {
	base := filepath.Base(path)
	base, _, _ = strings.Cut(base, "~")
	if before, _, found := strings.Cut(base, ".tmp."); found {
		base = before + ".tmp"
	}
	return verb + " " + base
}
