package main

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// movedWorkers returns the workers that use what another one renames meanwhile.
func movedWorkers() []worker {
	m := &mover{}
	return []worker{
		{name: "move-directory", setup: m.setup, turn: m.turn},
		{name: "in-moved-directory", setup: m.enter, turn: m.inside, finish: m.leave},
		{name: "read-replaced", setup: makeSettings, turn: readReplaced},
	}
}

// mover is a directory that gets another name all the time, and a process that is in it.
type mover struct {
	at int // which of the two names the directory has
	fd int // the directory below it
}

// setup makes the directory, and another below it.
func (m *mover) setup(r *round) {
	makeScratch(r)
	r.clear(r.scratch("moved-1"))
	r.mkdirAll(filepath.Join(r.scratch("moved-0"), "below"))
}

// turn renames the directory.
func (m *mover) turn(r *round) {
	from, to := r.scratch(fmt.Sprintf("moved-%d", m.at)), r.scratch(fmt.Sprintf("moved-%d", 1-m.at))
	r.rename(from, to)
	r.gone(from)
	if r.ok() {
		m.at = 1 - m.at
	}
}

// enter goes into the directory below, for good.
func (m *mover) enter(r *round) {
	m.fd = r.keep(r.open(filepath.Join(r.scratch("moved-0"), "below"), unix.O_RDONLY|unix.O_DIRECTORY, 0))
}

// inside makes, uses and removes a file and a directory there.
func (m *mover) inside(r *round) {
	n := serial.Add(1)
	name, other, dir := fmt.Sprintf("file-%d", n), fmt.Sprintf("renamed-%d", n), fmt.Sprintf("dir-%d", n)
	data := content(name)
	fd := -1
	r.try("openat O_CREAT", func() (err error) {
		fd, err = unix.Openat(m.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		return err
	})
	r.write(fd, data)
	r.same("pread", r.pread(fd), data)
	r.try("renameat", func() error { return unix.Renameat(m.fd, name, m.fd, other) })
	var st unix.Stat_t
	r.try("fstatat", func() error { return unix.Fstatat(m.fd, other, &st, unix.AT_SYMLINK_NOFOLLOW) })
	r.sized(st, len(data))
	r.try("mkdirat", func() error { return unix.Mkdirat(m.fd, dir, 0o700) })
	r.try("unlinkat directory", func() error { return unix.Unlinkat(m.fd, dir, unix.AT_REMOVEDIR) })
	r.try("unlinkat", func() error { return unix.Unlinkat(m.fd, other, 0) })
	r.close(fd)
}

// leave goes out of it.
func (m *mover) leave(r *round) { r.close(m.fd) }

// makeSettings makes the file that tmp-rename replaces.
func makeSettings(r *round) { r.put(r.path("settings.json"), []byte("{}\n")) }

// readReplaced reads the settings while tmp-rename replaces them.
func readReplaced(r *round) {
	path := r.path("settings.json")
	b := r.get(path)
	r.check(len(b) > 0 && b[len(b)-1] == '\n', "read replaced", "%q", b)
	st := r.stat(path)
	r.check(st.Size > 0, "stat replaced", "%d bytes", st.Size)
	r.chmod(path, 0o644)
}
