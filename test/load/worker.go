package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// worker is one kind of work, done over and over by one goroutine. Setup runs
// once before any worker's first turn, finish once after the last turn of this
// one; both may be missing.
type worker struct {
	name   string
	setup  func(*round)
	turn   func(*round)
	finish func(*round)
	every  time.Duration // at least this long between two turns
}

// site is the place where all workers work.
type site struct {
	dir string // absolute
	run string // tells this run's fresh names from those an earlier run left
}

// team is a worker with the lane it records into.
type team struct {
	worker
	lane *lane
	site *site
}

// allWorkers lists every worker there is.
func allWorkers(plain bool) []worker {
	return slices.Concat(
		credentialWorkers(plain),
		lockWorkers(),
		appendWorkers(),
		fileWorkers(),
		renameWorkers(),
		movedWorkers(),
		linkWorkers(),
		directoryWorkers(),
		handleWorkers(),
		attributeWorkers(),
	)
}

// work sets every worker up, one after the other, and then lets them all work
// at once for opt.duration or until ctx ends.
func work(ctx context.Context, teams []team, opt options) {
	var ready []team
	for _, t := range teams {
		if ctx.Err() != nil {
			break
		}
		if t.once(t.setup) {
			ready = append(ready, t)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, opt.duration)
	defer cancel()
	var all sync.WaitGroup
	for _, t := range ready {
		all.Go(func() { t.loop(ctx, opt.pause) })
	}
	all.Wait()
}

// loop takes turns until ctx ends, then finishes.
func (t team) loop(ctx context.Context, pause time.Duration) {
	for ctx.Err() == nil {
		t.once(t.turn)
		t.lane.countRound()
		select {
		case <-ctx.Done():
		case <-time.After(max(pause, t.every)):
		}
	}
	t.once(t.finish)
}

// once runs one of the worker's functions and tells whether all went well.
func (t team) once(f func(*round)) bool {
	if f == nil {
		return true
	}
	r := &round{lane: t.lane, site: t.site}
	defer r.end()
	f(r)
	return r.ok()
}

// watch returns when done is closed, or when a worker has hung in one call for
// longer than limit; the call then counts as failed.
func watch(teams []team, done <-chan struct{}, limit time.Duration) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		hung := false
		for _, t := range teams {
			hung = t.lane.failHung(limit) || hung
		}
		if hung {
			return
		}
	}
}
