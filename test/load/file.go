package main

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// fileWorkers returns the workers that create files and remove them.
func fileWorkers() []worker {
	return []worker{
		{name: "create-unlink", setup: makeScratch, turn: createUnlink},
		{name: "read-only-create", setup: makeScratch, turn: readOnlyCreate},
		{name: "unlinked-open", setup: makeScratch, turn: unlinkedOpen},
		{name: "tmpfile", setup: makeScratch, turn: tmpfile},
	}
}

// createNew is how a program creates a file that must not exist yet.
const createNew = unix.O_CREAT | unix.O_EXCL | unix.O_RDWR

// content is some content that only path has.
func content(path string) []byte {
	return fmt.Appendf(nil, "content of %s\n", path)
}

// createUnlink takes a file from its creation to its end.
func createUnlink(r *round) {
	path := r.fresh("create")
	data := content(path)
	fd := r.open(path, createNew, 0o644)
	r.write(fd, data)
	r.same("pread", r.pread(fd), data)
	r.close(fd)
	r.sized(r.stat(path), len(data))
	r.unlink(path)
	r.gone(path)
}

// readOnlyCreate writes a file whose mode forbids that, through the descriptor
// that created it, as git does with its objects.
func readOnlyCreate(r *round) {
	path := r.fresh("read-only")
	data := content(path)
	fd := r.open(path, createNew, 0o444)
	r.write(fd, data)
	r.close(fd)
	r.expect(path, data)
	st := r.stat(path)
	r.check(st.Mode&0o777&^0o444 == 0, "stat mode", "%o instead of 444", st.Mode&0o777)
	r.unlink(path)
}

// unlinkedOpen goes on using a file that has no name any more, through one descriptor and later through another.
func unlinkedOpen(r *round) {
	path := r.fresh("unlinked")
	fd := r.open(path, createNew, 0o644)
	later := r.open(path, unix.O_RDONLY, 0)
	r.unlink(path)
	r.gone(path)
	var all []byte
	for i := 0; i < 20 && r.ok(); i++ {
		piece := fmt.Appendf(nil, "piece %d of %s\n", i, path)
		all = append(all, piece...)
		r.write(fd, piece)
		r.nap(2 * time.Millisecond)
		r.same("pread", r.pread(fd), all)
		r.sized(r.fstat(fd), len(all))
	}
	r.close(fd)
	r.nap(50 * time.Millisecond)
	r.same("pread later", r.pread(later), all)
	r.close(later)
}

// tmpfile uses a file that never has a name.
func tmpfile(r *round) {
	fd := r.open(r.path("projects"), unix.O_TMPFILE|unix.O_RDWR, 0o600)
	data := bytes.Repeat(content("no path"), 10)
	for half := range 2 {
		r.pwrite(fd, data, int64(half*len(data)))
		r.nap(3 * time.Millisecond)
		r.same("pread", r.pread(fd), bytes.Repeat(data, half+1))
		r.nap(3 * time.Millisecond)
	}
	r.close(fd)
}
