package main

import (
	"bytes"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// attributeWorkers returns the workers that change files' attributes.
func attributeWorkers() []worker {
	return []worker{
		{name: "truncate", setup: makeScratch, turn: truncate},
	}
}

// truncate changes a file's size both ways, its times and its mode.
func truncate(r *round) {
	path := r.scratch("attributes")
	fd := r.open(path, unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR, 0o644)
	data := bytes.Repeat([]byte("x"), 1000)
	r.write(fd, data)

	short := 1 + rand.IntN(900)
	r.try("ftruncate", func() error { return unix.Ftruncate(fd, int64(short)) })
	r.sized(r.fstat(fd), short)
	long := short + 1 + rand.IntN(9000)
	r.try("truncate", func() error { return unix.Truncate(path, int64(long)) })
	r.sized(r.stat(path), long)
	zeros := make([]byte, long-short)
	r.same("pread", r.pread(fd), append(data[:short], zeros...))
	r.close(fd)

	changeTimes(r, path)
	for _, mode := range []uint32{0o600, 0o640, 0o755, 0o644} {
		r.chmod(path, mode)
		st := r.stat(path)
		r.check(st.Mode&0o7777 == mode, "stat mode", "%o instead of %o", st.Mode&0o7777, mode)
	}
}

// changeTimes sets the times of path to some in the past, which the file
// system has to keep to the microsecond.
func changeTimes(r *round, path string) {
	access := somewhen()
	modified := somewhen()
	r.utimes(path, access, modified)
	st := r.stat(path)
	r.check(micros(st.Atim) == micros(access), "stat atime", "not the time set")
	r.check(micros(st.Mtim) == micros(modified), "stat mtime", "not the time set")
}

// somewhen is a time within the last year, in whole microseconds.
func somewhen() unix.Timespec {
	ago := time.Duration(rand.Int64N(int64(365 * 24 * time.Hour)))
	return unix.NsecToTimespec(time.Now().Add(-ago).Truncate(time.Microsecond).UnixNano())
}

// micros is a time in whole microseconds.
func micros(t unix.Timespec) int64 {
	return t.Nano() / 1000
}
