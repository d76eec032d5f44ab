package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
func (p proc) thread(tid uint32, e entry) (thread, error) {
	group, err := p.threadGroup(tid, e)
	if err != nil {
		return thread{}, ended(err)
	}
	t := thread{group: Process{PID: group}}
	if t.start, err = e.start(); err != nil {
		return thread{}, ended(err)
	}
	if t.group.Start = t.start; group != tid {
		t.group.Start, err = p.entry(group).start()
	}
	if err != nil {
		return thread{}, ended(err)
	}
	return t, nil
}

// ended tells a thread that ended from one that cannot be read; both deny.
func ended(err error) error {
	// A file of /proc that was opened before its thread ended reads as ESRCH.
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return fmt.Errorf("%w: %w", ErrDenied, err)
}

// threadGroup asks the kernel or, when it is older than 6.13, reads it out of all else that a status tells.
func (p proc) threadGroup(tid uint32, e entry) (uint32, error) {
	if p.group != nil {
		if group, err := p.group(tid); err == nil && group != 0 {
			return group, nil
		}
	}
	b, err := e.readRecord("status")
	if err != nil {
		return 0, fmt.Errorf("read caller's thread group: %w", err)
	}
	return parseThreadGroup(string(b))
}

// unchanged checks that it still is the thread that it was before: ErrEnded or ErrChanged if not. It must come after
// every other fact was read. Of the thread's process there is nothing to check: the kernel keeps its number until its
// last thread has ended, and a thread that becomes the first by execve(2) gives up its own number.
func (t thread) unchanged(e entry) error {
	now, err := e.start()
	if err != nil {
		return ended(err)
	}
	if now != t.start {
		return fmt.Errorf("%w: thread %s of process %d", ErrChanged, filepath.Base(e.path), t.group.PID)
	}
	return nil
}

func groupOf(tid uint32) (uint32, error) {
	fd, err := unix.PidfdOpen(int(tid), unix.PIDFD_THREAD)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID}
	err = unix.IoctlPidfdInfo(fd, &info)
	return info.Tgid, err
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
