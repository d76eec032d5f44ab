package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keptErrors is how many distinct error texts a lane keeps.
const keptErrors = 5

// lane records what one worker did. The worker writes to it; the watch for hung
// calls and the report read it.
type lane struct {
	name string

	mu         sync.Mutex
	times      histogram
	rounds     int
	failed     int
	lost       int
	duplicated int
	busy       int // calls refused as they may be
	errors     []string
	slowest    string        // the step that took longest
	longest    time.Duration // and how long it took
	current    string        // the step under way, "" between two
	since      time.Time     // when it began
}

// timed makes one call under the name step and measures it. A call interrupted
// by a signal is made again, as the C library's and Go's own callers do.
func (l *lane) timed(step string, call func() error) error {
	began := time.Now()
	l.mu.Lock()
	l.current, l.since = step, began
	l.mu.Unlock()

	err := call()
	for errors.Is(err, unix.EINTR) {
		err = call()
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(step, time.Since(began))
	l.current = ""
	return err
}

// note adds one measured time. The caller holds mu.
func (l *lane) note(step string, took time.Duration) {
	l.times.add(took)
	if took > l.longest {
		l.slowest, l.longest = step, took
	}
}

// countRound counts one turn of the worker.
func (l *lane) countRound() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rounds++
}

// countBusy counts an answer that is a refusal and yet fine.
func (l *lane) countBusy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy++
}

// countFailed counts one failed step.
func (l *lane) countFailed(step, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed++
	l.keep(step + ": " + text)
}

// countLost counts n acknowledged writes that were not found again.
func (l *lane) countLost(n int, step, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost += n
	l.keep("lost: " + step + ": " + text)
}

// countDuplicated counts n writes that were found more than once.
func (l *lane) countDuplicated(n int, step, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.duplicated += n
	l.keep("duplicated: " + step + ": " + text)
}

// failHung counts the step under way as failed if it takes longer than limit,
// and tells whether it does.
func (l *lane) failHung(limit time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := time.Since(l.since)
	if l.current == "" || took <= limit {
		return false
	}
	l.note(l.current, took)
	l.failed++
	l.keep(fmt.Sprintf("%s: no answer within %v", l.current, limit))
	return true
}

// keep stores an error text if it is one of the first few of its kind. The
// caller holds mu.
func (l *lane) keep(text string) {
	text = l.name + ": " + text
	if len(l.errors) >= keptErrors || slices.Contains(l.errors, text) {
		return
	}
	l.errors = append(l.errors, text)
	fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05.000"), text)
}

// errorText names the errno in err, or is err's own text if there is none. It
// leaves paths out, so that the same failure has the same text every time.
func errorText(err error) string {
	errno, ok := errors.AsType[unix.Errno](err)
	if !ok {
		return err.Error()
	}
	return fmt.Sprintf("%s (%s)", errno.Error(), unix.ErrnoName(errno))
}
