package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// renameWorkers returns the workers that rename files.
func renameWorkers() []worker {
	x := &exchange{}
	return []worker{
		{name: "tmp-rename", turn: tmpRename},
		{name: "rename-exchange", setup: makeScratch, turn: x.turn},
		{name: "rename-over-open", setup: makeScratch, turn: renameOverOpen},
	}
}

// tmpRename replaces the settings as editors do.
func tmpRename(r *round) {
	path := r.path("settings.json")
	n := serial.Add(1)
	tmp := fmt.Sprintf("%s.tmp.%d", path, n)
	data := fmt.Appendf(nil, "{\"load\":{\"run\":%q,\"n\":%d}}\n", r.site.run, n)
	r.put(tmp, data)
	r.rename(tmp, path)
	r.expect(path, data)
	if !r.ok() {
		_ = unix.Unlink(tmp) // the failure is counted already
	}
}

// exchange is the state of the rename-exchange worker.
type exchange struct {
	a, b []byte // what the files hold, nil if that is not known
}

// turn swaps two files, and finds out whether that was done once.
func (x *exchange) turn(r *round) {
	a, b := r.scratch("exchange-a"), r.scratch("exchange-b")
	if x.a == nil {
		x.a, x.b = content(a), content(b)
		r.put(a, x.a)
		r.put(b, x.b)
	}
	r.try("renameat2 exchange", func() error {
		return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	})
	x.a, x.b = x.b, x.a
	r.expect(a, x.a)
	r.expect(b, x.b)
	if !r.ok() {
		x.a, x.b = nil, nil
	}
}

// renameOverOpen replaces a file that is open, and that its reader keeps.
func renameOverOpen(r *round) {
	x, y := r.scratch("over-x"), r.scratch("over-y")
	n := serial.Add(1)
	before := fmt.Appendf(nil, "before %d\n", n)
	after := fmt.Appendf(nil, "after %d, a longer text\n", n)
	r.put(x, before)
	fd := r.open(x, unix.O_RDONLY, 0)
	r.put(y, after)
	r.rename(y, x)
	r.gone(y)
	r.same("read replaced", r.pread(fd), before)
	r.expect(x, after)
	r.close(fd)
}
