package main

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// lockWorkers returns the workers that take locks.
func lockWorkers() []worker {
	f := &flocks{}
	return []worker{
		{name: "lock", turn: refreshLock, every: 200 * time.Millisecond},
		{name: "mkdir-lock", setup: clearMkdirLock, turn: mkdirLock},
		{name: "flock", setup: f.setup, turn: f.turn},
	}
}

// refreshLock takes the lock directory that guards a token's refresh. Other
// programs take it too, so that it may be there already.
func refreshLock(r *round) {
	path := r.path(".oauth_refresh.lock")
	held := false
	r.try(named("mkdir", path), func() error {
		err := unix.Mkdir(path, 0o755)
		held = err == nil
		if errors.Is(err, unix.EEXIST) {
			return nil
		}
		return err
	})
	if !held {
		if r.ok() {
			r.lane.countBusy()
		}
		return
	}
	now := unix.NsecToTimespec(time.Now().UnixNano())
	r.utimes(path, now, now)
	r.rmdir(path)
}

// mkdirLockPath is a lock directory that only one worker uses.
func mkdirLockPath(r *round) string {
	return r.path("projects", "lock")
}

// clearMkdirLock removes what an aborted run left.
func clearMkdirLock(r *round) {
	makeScratch(r)
	r.clear(mkdirLockPath(r))
}

// mkdirLock takes and releases the lock. Nobody else does, so that an answer
// saying otherwise means that a call was carried out twice.
func mkdirLock(r *round) {
	path := mkdirLockPath(r)
	r.mkdir(path)
	st := r.stat(path)
	r.check(st.Mode&unix.S_IFMT == unix.S_IFDIR, "stat lock", "not a directory")
	r.rmdir(path)
	if !r.ok() {
		_ = unix.Rmdir(path) // so that one failure does not become many
	}
}

// flocks is the state of the flock worker.
type flocks struct {
	held int // has a lock from the setup on
}

// setup takes the lock that is held for the whole run.
func (f *flocks) setup(r *round) {
	makeScratch(r)
	f.held = r.keep(r.open(r.scratch("flock-held"), unix.O_CREAT|unix.O_RDWR, 0o644))
	r.flock(f.held, unix.LOCK_EX)
}

// turn tries locks that a second descriptor must not get.
func (f *flocks) turn(r *round) {
	path := r.scratch("flock")
	first := r.open(path, unix.O_CREAT|unix.O_RDWR, 0o644)
	second := r.open(path, unix.O_RDWR, 0)
	r.flock(first, unix.LOCK_EX)
	r.locked(second)
	r.flock(first, unix.LOCK_UN)
	r.flock(second, unix.LOCK_EX|unix.LOCK_NB)
	r.flock(second, unix.LOCK_UN)
	r.close(first)
	r.close(second)

	other := r.open(r.scratch("flock-held"), unix.O_RDWR, 0)
	r.locked(other)
	r.close(other)
}

// flock changes the lock of fd.
func (r *round) flock(fd, how int) {
	r.try("flock", func() error { return unix.Flock(fd, how) })
}

// locked expects another descriptor to hold the lock that fd asks for.
func (r *round) locked(fd int) {
	r.refused("flock second", unix.EWOULDBLOCK, func() error {
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	})
}
