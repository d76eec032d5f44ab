package main

import (
	"slices"

	"golang.org/x/sys/unix"
)

// linkWorkers returns the workers that link files.
func linkWorkers() []worker {
	return []worker{
		{name: "hardlink", setup: makeScratch, turn: hardlink},
		{name: "symlink", setup: makeScratch, turn: symlink},
	}
}

// hardlink gives a file a second name and takes the first one away, while the
// file is open under the second.
func hardlink(r *round) {
	f, g := r.fresh("link-f"), r.fresh("link-g")
	data := content(f)
	r.put(f, data)
	r.try(named("link", f), func() error { return unix.Link(f, g) })
	fd := r.open(g, unix.O_RDWR, 0)
	r.links(fd, 2)
	r.unlink(f)
	r.gone(f)
	r.same("pread", r.pread(fd), data)
	r.links(fd, 1)
	more := content(g)
	r.pwrite(fd, more, int64(len(data)))
	r.expect(g, slices.Concat(data, more))
	r.links(fd, 1)
	r.unlink(g)
	r.close(fd)
}

// links expects the file open as fd to have want names.
func (r *round) links(fd, want int) {
	st := r.fstat(fd)
	r.check(uint64(st.Nlink) == uint64(want), "fstat links", "%d instead of %d", st.Nlink, want)
}

// symlink takes a symbolic link from its creation to its end. It points to
// nothing.
func symlink(r *round) {
	path := r.fresh("symlink")
	target := "to/nothing/" + r.site.run
	r.try(named("symlink", path), func() error { return unix.Symlink(target, path) })
	buf := make([]byte, 256)
	n := 0
	r.try(named("readlink", path), func() (err error) {
		n, err = unix.Readlink(path, buf)
		return err
	})
	r.same("readlink", buf[:max(n, 0)], []byte(target))
	st := r.stat(path)
	r.check(st.Mode&unix.S_IFMT == unix.S_IFLNK, "stat symlink", "not a symbolic link")
	r.unlink(path)
	r.gone(path)
}
