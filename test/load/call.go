package main

import (
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The steps below are one system call each and not os.File's methods: os.File
// would register every descriptor with epoll, as FUSE files allow that, and
// make it non-blocking, which the programs this one stands for do not do.

// open opens path. The round closes the descriptor if close does not.
func (r *round) open(path string, flags int, mode uint32) int {
	fd := -1
	r.try(named("open", path), func() (err error) {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode)
		return err
	})
	if r.ok() {
		r.fds = append(r.fds, fd)
	}
	return fd
}

// keep leaves fd open after the end of the round.
func (r *round) keep(fd int) int {
	r.fds = slices.DeleteFunc(r.fds, func(open int) bool { return open == fd })
	return fd
}

// close closes fd. An interrupted close has closed it all the same.
func (r *round) close(fd int) {
	if !r.ok() {
		return
	}
	r.keep(fd)
	r.try("close", func() error {
		if err := unix.Close(fd); err != unix.EINTR {
			return err
		}
		return nil
	})
}

// write writes all of data at fd's position.
func (r *round) write(fd int, data []byte) {
	r.writeBy("write", data, func(rest []byte, _ int64) (int, error) {
		return unix.Write(fd, rest)
	})
}

// pwrite writes all of data at offset.
func (r *round) pwrite(fd int, data []byte, offset int64) {
	r.writeBy("pwrite", data, func(rest []byte, done int64) (int, error) {
		return unix.Pwrite(fd, rest, offset+done)
	})
}

// writeBy calls put until it has taken all of data, as a write may be short.
func (r *round) writeBy(step string, data []byte, put func(rest []byte, done int64) (int, error)) {
	for done := 0; done < len(data) && r.ok(); {
		r.try(step, func() error {
			n, err := put(data[done:], int64(done))
			if err == nil && n == 0 {
				err = io.ErrShortWrite
			}
			if err == nil {
				done += n
			}
			return err
		})
	}
}

// read reads from fd's position to the end, at most chunk bytes at a time and
// with a nap after each of them.
func (r *round) read(fd, chunk int, nap time.Duration) []byte {
	return r.readBy("read", chunk, nap, func(buf []byte, _ int64) (int, error) {
		return unix.Read(fd, buf)
	})
}

// pread reads from the start to the end, wherever fd's position is.
func (r *round) pread(fd int) []byte {
	return r.readBy("pread", 64<<10, 0, func(buf []byte, done int64) (int, error) {
		return unix.Pread(fd, buf, done)
	})
}

// readBy calls get until there is nothing more.
func (r *round) readBy(step string, chunk int, nap time.Duration, get func(buf []byte, done int64) (int, error)) []byte {
	var all []byte
	buf := make([]byte, chunk)
	for r.ok() {
		n := 0
		r.try(step, func() (err error) {
			n, err = get(buf, int64(len(all)))
			return err
		})
		if !r.ok() || n == 0 {
			break
		}
		all = append(all, buf[:n]...)
		r.nap(nap)
	}
	return all
}

// put creates or truncates path and writes data to it.
func (r *round) put(path string, data []byte) {
	fd := r.open(path, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY, 0o644)
	r.write(fd, data)
	r.close(fd)
}

// get reads the whole of path.
func (r *round) get(path string) []byte {
	fd := r.open(path, unix.O_RDONLY, 0)
	data := r.read(fd, 64<<10, 0)
	r.close(fd)
	return data
}

// expect reads path, which has to hold want.
func (r *round) expect(path string, want []byte) {
	r.same(named("read back", path), r.get(path), want)
}

// fsync syncs fd.
func (r *round) fsync(fd int) {
	r.try("fsync", func() error { return unix.Fsync(fd) })
}

// fstat returns the attributes of fd.
func (r *round) fstat(fd int) (st unix.Stat_t) {
	r.try("fstat", func() error { return unix.Fstat(fd, &st) })
	return st
}

// stat returns the attributes of path, without following a symbolic link.
func (r *round) stat(path string) (st unix.Stat_t) {
	r.try(named("stat", path), func() error { return unix.Lstat(path, &st) })
	return st
}

// gone expects path not to exist.
func (r *round) gone(path string) {
	var st unix.Stat_t
	r.refused(named("stat", path), unix.ENOENT, func() error { return unix.Lstat(path, &st) })
}

// sized expects the attributes to say want bytes.
func (r *round) sized(st unix.Stat_t, want int) {
	r.check(st.Size == int64(want), "stat size", "%d instead of %d", st.Size, want)
}

// rename renames from to to.
func (r *round) rename(from, to string) {
	r.try(named("rename", from), func() error { return unix.Rename(from, to) })
}

// unlink removes the file path.
func (r *round) unlink(path string) {
	r.try(named("unlink", path), func() error { return unix.Unlink(path) })
}

// mkdir makes the directory path, which must not exist.
func (r *round) mkdir(path string) {
	r.try(named("mkdir", path), func() error { return unix.Mkdir(path, 0o755) })
}

// rmdir removes the directory path.
func (r *round) rmdir(path string) {
	r.try(named("rmdir", path), func() error { return unix.Rmdir(path) })
}

// chmod sets the mode of path.
func (r *round) chmod(path string, mode uint32) {
	r.try(named("chmod", path), func() error { return unix.Chmod(path, mode) })
}

// utimes sets the access and the modification time of path.
func (r *round) utimes(path string, access, modified unix.Timespec) {
	times := []unix.Timespec{access, modified}
	r.try(named("utimes", path), func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, times, 0)
	})
}

// mkdirAll makes sure that the directory path is there.
func (r *round) mkdirAll(path string) {
	r.try(named("mkdir -p", path), func() error { return os.MkdirAll(path, 0o755) })
}

// clear makes sure that path is not there, in a setup or after a failed round.
func (r *round) clear(path string) {
	r.try(named("rm -r", path), func() error { return os.RemoveAll(path) })
}

// makeScratch is the setup of the workers that only need a place for files.
func makeScratch(r *round) {
	r.mkdirAll(r.scratch(""))
}
