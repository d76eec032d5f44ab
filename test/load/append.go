package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// journal is a file that one worker appends numbered lines to.
type journal struct {
	name  string
	fd    int    // stays open, or -1 if every line opens the file anew
	acked []bool // by line number, whether the write was acknowledged
}

// padding makes a line about as long as a short one of a transcript.
var padding = strings.Repeat("p", 200)

// appendWorkers returns the workers that append.
func appendWorkers() []worker {
	open := &journal{name: "t.jsonl", fd: -1}
	anew := &journal{name: "u.jsonl", fd: -1}
	return []worker{
		{name: "append-fsync", setup: open.setupOpen, turn: open.appendSynced, finish: open.verify},
		{name: "append-open", setup: anew.setup, turn: anew.appendAnew, finish: anew.verify},
	}
}

// path is where the journal is.
func (j *journal) path(r *round) string {
	return r.path("projects", "p", j.name)
}

// setup removes the journal of an earlier run.
func (j *journal) setup(r *round) {
	r.mkdirAll(r.path("projects", "p"))
	r.clear(j.path(r))
}

// setupOpen also opens the journal for the whole run.
func (j *journal) setupOpen(r *round) {
	j.setup(r)
	j.fd = r.keep(j.open(r))
}

// open opens the journal for appending.
func (j *journal) open(r *round) int {
	return r.open(j.path(r), unix.O_CREAT|unix.O_APPEND|unix.O_WRONLY, 0o644)
}

// line formats the next line. Its number is used up whether or not the write
// succeeds.
func (j *journal) line(r *round) []byte {
	n := len(j.acked)
	j.acked = append(j.acked, false)
	data, err := json.Marshal(map[string]any{"line": n, "pad": padding})
	r.check(err == nil, "format", "%v", err)
	return append(data, '\n')
}

// appendSynced appends a line through the open descriptor.
func (j *journal) appendSynced(r *round) {
	r.write(j.fd, j.line(r))
	r.fsync(j.fd)
	j.acked[len(j.acked)-1] = r.ok()
}

// appendAnew opens the journal, appends a line and closes it.
func (j *journal) appendAnew(r *round) {
	fd := j.open(r)
	if !r.ok() {
		return
	}
	r.write(fd, j.line(r))
	r.close(fd)
	j.acked[len(j.acked)-1] = r.ok()
}

// verify looks for every line in the journal. A journal that cannot be read
// has lost them all, but that counts as one failure.
func (j *journal) verify(r *round) {
	if j.fd >= 0 {
		r.again().close(j.fd) // whatever comes of it, the lines have to be there
	}
	if len(j.acked) == 0 {
		return
	}
	data := r.get(j.path(r))
	if !r.ok() {
		return
	}
	found := checkLines(data, j.acked)
	if found.lost > 0 {
		r.lane.countLost(found.lost, "verify", fmt.Sprintf("%d lines, first %d", found.lost, found.firstLost))
	}
	if found.duplicated > 0 {
		r.lane.countDuplicated(found.duplicated, "verify", fmt.Sprintf("%d lines, first %d", found.duplicated, found.firstDuplicated))
	}
	for _, text := range found.wrong {
		r.lane.countFailed("verify", text)
	}
}
