package identity

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// thread is what cannot change of a caller while it is being attested: whose thread it is, and when both began.
type thread struct {
	group Process
	start uint64 // of the thread itself, in clock ticks since boot
}

// thread reads a thread and its thread group. One that ended is ErrEnded.
func (p proc) thread(tid uint32) (thread, error) {
	group, err := p.threadGroup(tid)
	if err != nil {
		return thread{}, ended(err)
	}
	return p.starts(tid, group)
}

// ended tells a thread that ended from one that cannot be read; both deny.
func ended(err error) error {
	// A file of /proc that was opened before its thread ended reads as ESRCH.
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return fmt.Errorf("%w: %w", ErrDenied, err)
}

func (p proc) threadGroup(tid uint32) (uint32, error) {
	b, err := p.read(tid, "status")
	if err != nil {
		return 0, fmt.Errorf("read caller's thread group: %w", err)
	}
	return parseThreadGroup(string(b))
}

// starts reads when a thread and its process began.
func (p proc) starts(tid, group uint32) (thread, error) {
	start, err := p.start(tid)
	if err != nil {
		return thread{}, ended(err)
	}
	t := thread{group: Process{PID: group, Start: start}, start: start}
	if group != tid {
		if t.group.Start, err = p.start(group); err != nil {
			return thread{}, ended(err)
		}
	}
	return t, nil
}

// unchanged checks that a thread id still means the thread that it meant before: ErrEnded or ErrChanged if not. A
// thread stays in its process for life, so the start times tell. It must come after every other fact was read.
func (p proc) unchanged(tid uint32, before thread) error {
	now, err := p.starts(tid, before.group.PID)
	if err != nil {
		return err
	}
	if now != before {
		return fmt.Errorf("%w: thread %d of process %d", ErrChanged, tid, before.group.PID)
	}
	return nil
}

// parseThreadGroup reads the thread group id of /proc/<tid>/status.
func parseThreadGroup(status string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(statusField(status, "Tgid:")), 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("read caller's thread group: %w", errBadProc)
	}
	return uint32(n), nil
}

// statusField returns what follows a name at the beginning of a line of /proc/<pid>/status, "" when no line has it.
// The kernel escapes line ends in the program's name, so a program cannot make such a line up.
func statusField(status, name string) string {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, name); ok {
			return v
		}
	}
	return ""
}
