package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// handleWorkers returns the workers that keep what they opened for the whole
// run.
func handleWorkers() []worker {
	m := &mapping{}
	h := &heldFiles{}
	return []worker{
		{name: "mmap", setup: m.setup, turn: m.turn},
		{name: "held", setup: h.setup, turn: h.turn, finish: h.finish},
	}
}

// mapping is a file mapped into memory. It is touched only by reads from a
// pipe into it: the page fault then happens inside a system call, where a slow
// one holds up no other goroutine, and one that fails is an error instead of a
// signal.
type mapping struct {
	memory  []byte
	file    int // not the descriptor that was mapped
	pipe    [2]int
	counter uint64
}

// mappedSize is the size of a mapping, which has the counter on both its pages.
const mappedSize = 8 << 10

// setup maps the file.
func (m *mapping) setup(r *round) {
	makeScratch(r)
	path := r.path("projects", "mm")
	fd := r.open(path, unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR, 0o644)
	r.try("ftruncate", func() error { return unix.Ftruncate(fd, mappedSize) })
	r.try("mmap", func() (err error) {
		m.memory, err = unix.Mmap(fd, 0, mappedSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		return err
	})
	r.close(fd)
	m.file = r.keep(r.open(path, unix.O_RDONLY, 0))
	r.try("pipe", func() error { return unix.Pipe2(m.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK) })
}

// turn writes through the mapping and reads through a descriptor.
func (m *mapping) turn(r *round) {
	m.counter++
	value := binary.LittleEndian.AppendUint64(nil, m.counter)
	page := append(value, make([]byte, mappedSize/2-len(value))...)
	m.store(r, 0, value)
	m.store(r, mappedSize/2, value)
	r.try("msync", func() error { return unix.Msync(m.memory, unix.MS_SYNC) })
	r.same("pread", r.pread(m.file), bytes.Repeat(page, 2))
}

// store writes value, which is short enough for one call, into the memory.
func (m *mapping) store(r *round, at int, value []byte) {
	if !r.ok() {
		return
	}
	r.write(m.pipe[1], value)
	r.try("store", func() error {
		_, err := unix.Read(m.pipe[0], m.memory[at:at+len(value)])
		return err
	})
	if !r.ok() {
		_, _ = unix.Read(m.pipe[0], make([]byte, len(value))) // empty the pipe
	}
}

// heldFile is a file with a descriptor that stays open.
type heldFile struct {
	path string
	fd   int
	want []byte // what it holds, nil if that is not known
}

// heldFiles is the state of the held worker.
type heldFiles struct {
	files []*heldFile
}

const (
	heldCount = 50
	heldSize  = 4 << 10
)

// setup makes the files and opens them.
func (h *heldFiles) setup(r *round) {
	dir := r.scratch("held")
	r.mkdirAll(dir)
	for i := range heldCount {
		f := &heldFile{path: fmt.Sprintf("%s/held~%d", dir, i)}
		f.want = bytes.Repeat(fmt.Appendf(nil, "held %09d.\n", i), heldSize)[:heldSize]
		f.fd = r.keep(r.open(f.path, unix.O_CREAT|unix.O_TRUNC|unix.O_RDWR, 0o644))
		r.write(f.fd, f.want)
		h.files = append(h.files, f)
	}
}

// turn changes one of the files. What it held before must still be there.
func (h *heldFiles) turn(r *round) {
	f := h.files[rand.IntN(len(h.files))]
	f.verify(r)
	if !r.ok() {
		return
	}
	piece := fmt.Appendf(nil, "<%d>", serial.Add(1))
	at := rand.IntN(heldSize - len(piece))
	r.pwrite(f.fd, piece, int64(at))
	if !r.ok() {
		f.want = nil
		return
	}
	copy(f.want[at:], piece)
	f.verify(r)
}

// verify compares the file with what it has to hold, and accepts what it finds
// so that a loss is counted once.
func (f *heldFile) verify(r *round) {
	got := r.pread(f.fd)
	if !r.ok() {
		return
	}
	if f.want != nil {
		r.same("pread", got, f.want)
	}
	f.want = append(got, make([]byte, max(heldSize-len(got), 0))...)[:heldSize]
}

// finish reads every file by its name.
func (h *heldFiles) finish(r *round) {
	for _, f := range h.files {
		one := r.again()
		one.close(f.fd)
		got := one.get(f.path)
		if f.want != nil {
			one.same("read at the end", got, f.want)
		}
		one.end()
	}
}
