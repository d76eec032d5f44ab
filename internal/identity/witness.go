package identity

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Process names one process for as long as it lives: a pid comes again, with another start time. (The inode of a pid
// namespace comes again at once, and names nothing.)
type Process struct {
	PID   uint32
	Start uint64 // in clock ticks since boot, field 22 of /proc/PID/stat
}

// Witness finds the process whose end is the end of the subject's container: init, when a runtime has named it (0: it
// has not), else the first process that the kernel shows in the container's cgroup, else process 1 of the caller's pid
// namespace, which may be one inside the container. For a container in the host's namespace it is the caller itself.
func (r *Resolver) Witness(s *Subject, init uint32) (Process, error) {
	pid := init
	var err error
	if pid == 0 && s.Container != "" && s.Runtime != "namespace" {
		first, err := r.findInit(s)
		if err != nil {
			return Process{}, err
		}
		pid = first.pid
	}
	if pid == 0 && s.PidNamespace != r.hostPidns {
		if pid, err = r.firstOfNamespace(s.PidNamespace); err != nil {
			return Process{}, err
		}
	}
	switch {
	case pid == 0 && s.Process.PID != 0:
		return s.Process, nil // not the thread, which may end long before its process
	case pid == 0:
		pid = s.Caller.TID
	}
	start, err := r.proc.entry(pid).start()
	if err != nil {
		return Process{}, err
	}
	return Process{PID: pid, Start: start}, nil
}

func (r *Resolver) firstOfNamespace(ns uint64) (uint32, error) {
	entries, err := os.ReadDir(r.proc.dir)
	if err != nil {
		return 0, fmt.Errorf("look for the first process: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		p := r.proc.entry(uint32(pid))
		if got, err := p.pidNamespace(); err == nil && got == ns && p.firstInNamespace() {
			return uint32(pid), nil
		}
	}
	return 0, errors.New("look for the first process: the pid namespace has none that can be seen")
}

// Alive reports whether that very process still runs. A zombie does not, but one whose first thread alone has ended,
// and which looks the same by its state, does.
func (r *Resolver) Alive(p Process) bool {
	b, err := r.proc.entry(p.PID).read("stat")
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	st, perr := parseStat(string(b))
	if err != nil || perr != nil {
		return true // Fail closed: what cannot be seen counts as running
	}
	ended := st.state == "X" || st.state == "Z" && st.threads <= 1
	return st.start == p.Start && !ended
}

func (e entry) start() (uint64, error) {
	b, err := e.readRecord("stat")
	if err != nil {
		return 0, fmt.Errorf("read start time: %w", err)
	}
	st, err := parseStat(string(b))
	return st.start, err
}

// status is what is read of /proc/PID/stat.
type status struct {
	state   string
	threads uint64 // the ended first one included, as long as there are others
	start   uint64 // in clock ticks since boot
}

// parseStat reads /proc/PID/stat. The command's name, in parentheses, may hold anything.
func parseStat(text string) (status, error) {
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return status{}, fmt.Errorf("read process state: %w", errBadProc)
	}
	f := strings.Fields(text[i+1:])
	const threads, start = 20 - 3, 22 - 3 // counted from the state, which is field 3
	if len(f) <= start {
		return status{}, fmt.Errorf("read process state: %w", errBadProc)
	}
	st := status{state: f[0]}
	var err1, err2 error
	st.threads, err1 = strconv.ParseUint(f[threads], 10, 64)
	st.start, err2 = strconv.ParseUint(f[start], 10, 64)
	if err1 != nil || err2 != nil {
		return status{}, fmt.Errorf("read process state: %w", errBadProc)
	}
	return st, nil
}
