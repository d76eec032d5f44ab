package identity

import (
	"errors"
	"fmt"
	"time"
)

// errNotFirst: the process is not the first of the namespace that is asked about.
var errNotFirst = errors.New("not the first process of the caller's pid namespace")

// errLate: the process is younger than the container whose first one it should be.
var errLate = errors.New("the process began after the container; if the host's clock was set, start the container again")

// errNamed: cgroups name the container of the first process, and not the caller's.
var errNamed = errors.New("cgroups name the container of the first process, but not the caller's")

// FirstOf finds the first process of the subject's own pid namespace in what a runtime says of a container, for
// subjects that no cgroup names. It is an error when the runtime's word for the container's first process is another
// process, or not to be trusted.
//
// While the caller of a request waits, its namespace cannot end, and its number cannot become another one's: it is the
// runtime that may be late, and mean by the number a process that has ended. So who holds the runtime to an answer asks
// for it again between two of these that give the same process.
func (r *Resolver) FirstOf(s *Subject, f *Facts) (Process, error) {
	e, err := r.proc.open(f.InitPID)
	if err != nil {
		return Process{}, fmt.Errorf("find first process: %w", err)
	}
	defer e.close()
	ns, err := e.pidNamespace()
	if err != nil {
		return Process{}, fmt.Errorf("find first process: %w", err)
	}
	if ns == r.hostPidns || ns != s.PidNamespace || !e.firstInNamespace() {
		return Process{}, fmt.Errorf("find first process: process %d: %w", f.InitPID, errNotFirst)
	}
	if err := unnamed(e); err != nil {
		return Process{}, fmt.Errorf("find first process: process %d: %w", f.InitPID, err)
	}
	if err := r.vouched(f, e); err != nil {
		return Process{}, err
	}
	start, err := e.start()
	if err != nil {
		return Process{}, fmt.Errorf("find first process: %w", err)
	}
	p := Process{PID: f.InitPID, Start: start}
	if err := p.noLaterThan(f.Started); err != nil {
		return Process{}, fmt.Errorf("find first process: process %d: %w", f.InitPID, err)
	}
	return p, nil
}

// slack is how far apart the clock of a start and the runtime's record of it may be.
const slack = 2 * time.Second

// noLaterThan checks that the process was there when its container was started: a runtime that missed the container's
// end may mean by the number the first process of another container.
func (p Process) noLaterThan(started time.Time) error {
	at, err := p.Started()
	if err != nil {
		return err
	}
	if started.IsZero() || at.After(started.Add(slack)) {
		// Fail closed, also where the host's clock was set forward since: start the container again.
		return fmt.Errorf("%w: it began at %s, the container at %s by the runtime", errLate, at.Format(time.RFC3339), started.Format(time.RFC3339))
	}
	return nil
}

// unnamed checks that no cgroup names the container of a first process.
func unnamed(e entry) error {
	text, err := e.cgroupText()
	if err != nil {
		return err
	}
	paths, err := ParseCgroup(text)
	if err != nil {
		return err
	}
	if id, _, err := Container(paths); err != nil || id != "" {
		// Fail closed: the caller moved out of the cgroups of its container, which may be another one in the same pid
		// namespace.
		return errNamed
	}
	return nil
}
