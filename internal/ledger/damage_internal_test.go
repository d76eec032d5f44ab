package ledger

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func dup(t testing.TB, fd int) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// made has nodes, links, a removed name, a forgotten node and an open file.
func made(t testing.TB) *Ledger {
	t.Helper()
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	dir, err1 := l.Add(Node{Key: Key{Ino: 10, Type: unix.S_IFDIR}}, Name{1, "dir"})
	n, err2 := l.Add(Node{Key: Key{Ino: 11, Gen: 3}, Tree: dir.ID, Size: 5, MTime: 6}, Name{dir.ID, "a"})
	gone, err3 := l.Add(Node{Key: Key{Ino: 12}}, Name{dir.ID, "gone"})
	err4 := l.Again(n, Name{dir.ID, "b"})
	err5 := l.Rename(Name{dir.ID, "a"}, Name{dir.ID, "c"}, false)
	l.Forget(gone.ID, 1)
	_, err6 := l.Open(Handle{Node: n.ID}, 8)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestOtherVersion(t *testing.T) {
	l := made(t)
	defer func(was string) { version = was }(version)
	for _, tc := range []struct {
		version string
		want    error
	}{{"2", nil}, {"3", ErrVersion}, {"1", ErrVersion}, {"0", ErrVersion}, {"", ErrVersion}} {
		version = tc.version
		if _, _, err := Peek(l.fd); !errors.Is(err, tc.want) {
			t.Errorf("peek of 2 by %q: %v, want %v", tc.version, err, tc.want)
		}
		if next, err := Open(dup(t, l.fd)); !errors.Is(err, tc.want) {
			t.Errorf("open of 2 by %q: %v, want %v", tc.version, err, tc.want)
		} else if err == nil {
			_ = unix.Munmap(next.mem)
		}
	}
	version = "3"
	newer := made(t)
	version = "2"
	if _, err := Open(dup(t, newer.fd)); !errors.Is(err, ErrVersion) {
		t.Errorf("open of 3 by 2: %v, want %v", err, ErrVersion)
	}
}

// sane demands of a ledger that was accepted that it holds together, and that it can be used.
func sane(t testing.TB, l *Ledger) {
	t.Helper()
	next := *l.word(wordNextID)
	for id, n := range l.nodes {
		if n.ID != id || id <= rootID || id >= next {
			t.Errorf("node %d is called %d, the next is to be %d", id, n.ID, next)
		}
		for _, x := range n.names {
			if l.children[x.Name] != id {
				t.Errorf("%v is a name of %d and leads to %d", x.Name, id, l.children[x.Name])
			}
		}
	}
	for at, id := range l.children {
		if n := l.nodes[id]; n == nil || !n.has(at) {
			t.Errorf("%v leads to %d, which does not have it", at, id)
		}
	}
	for k, id := range l.keys {
		if n := l.nodes[id]; n == nil || n.Key != k {
			t.Errorf("key %v is of %d, which does not have it", k, id)
		}
	}
	if l.live < 0 || l.live > halfSize || int(*l.end()) > halfSize {
		t.Errorf("%d live bytes, %d in all", l.live, *l.end())
	}
	use(t, l)
}

// use carries out what a server does next. A full ledger is no fault.
func use(t testing.TB, l *Ledger) {
	t.Helper()
	l.Handles(func(uint64, Handle, uint64) {})
	n, err := l.Add(Node{Key: Key{Ino: 99}}, Name{1, "new"})
	switch {
	case err == nil:
		if l.Child(1, "new") != n || l.Find(n.Key) != n.ID {
			t.Error("a new node is not found")
		}
		if err := l.Rename(Name{1, "new"}, Name{1, "dir"}, true); err != nil && !errors.Is(err, ErrFull) {
			t.Error(err)
		}
	case !errors.Is(err, ErrFull):
		t.Error(err)
	}
	if _, err := l.Open(Handle{Node: 2}, 1); err != nil && !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	for id := range l.nodes {
		l.Forget(id, 1)
	}
	l.compact()
	for id := range l.nodes {
		l.Forget(id, 1<<64-1)
	}
	if len(l.nodes) != 0 || len(l.children) != 0 || l.live != 0 {
		t.Errorf("all forgotten: %d nodes, %d names, %d live bytes", len(l.nodes), len(l.children), l.live)
	}
}

// opened opens what may be damaged: it is refused as such, or sane.
func opened(t testing.TB, fd int) {
	t.Helper()
	l, err := Open(fd)
	if err != nil {
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
			t.Errorf("got %v, want ErrDamaged or ErrVersion", err)
		}
		return
	}
	sane(t, l)
	_ = unix.Munmap(l.mem)
}

// Each byte of the records, and of the counters that lead to them, is spoilt in turn.
func TestDamage(t *testing.T) {
	l := made(t)
	records := append([]byte(nil), l.mem[recordsAt:recordsAt+int(*l.end())]...)
	header := append([]byte(nil), l.mem[:wordHandles+8]...)
	spoil := func(at int, by byte) {
		copy(l.mem, header)
		clear(l.mem[recordsAt : recordsAt+64<<10])
		copy(l.mem[recordsAt:], records)
		l.mem[at] ^= by
		opened(t, l.fd)
		if t.Failed() {
			t.Fatalf("byte %d changed by %#x (records begin at %d)", at, by, recordsAt)
		}
	}
	for _, by := range []byte{0xff, 1, 0x80} {
		for at := range header {
			spoil(at, by)
		}
		for i := range records {
			spoil(recordsAt+i, by)
		}
	}
}

// Counters and records of any kind: Open ends, and what it accepts can be used.
func FuzzOpen(f *testing.F) {
	l := made(f)
	end := int(*l.end())
	f.Add(l.mem[wordNextID:wordHandles+8], l.mem[recordsAt:recordsAt+end])
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63), []byte{})
	f.Add([]byte{}, []byte(strings.Repeat("\x18\x00\x00\x00\x02\x01\x00\x00", 30)))
	f.Fuzz(func(t *testing.T, counters, records []byte) {
		counters = counters[:min(len(counters), wordHandles+8-wordNextID)]
		records = records[:min(len(records), 1<<16)]
		clear(l.mem[wordNextID : wordHandles+8])
		clear(l.mem[recordsAt : recordsAt+128<<10])
		copy(l.mem[wordNextID:], counters)
		if len(counters) < wordEnd0+8-wordNextID {
			*l.word(wordEnd0) = uint64(len(records))
		}
		copy(l.mem[recordsAt+int(*l.word(wordHalf)&1)*halfSize:], records)
		opened(t, l.fd)
		l.releaseHalf(0)
		l.releaseHalf(1)
	})
}
