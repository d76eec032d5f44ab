package sealed

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Sizes that the tests fill.
const (
	Entries  = entries
	PageSize = pageSize
)

// Mem is the arena's mapping.
func (a *Arena) Mem() []byte { return a.mem }

// Pages is how many pages hold objects.
func (a *Arena) Pages() int { return a.pages() }

// Free are the pages that no object has. Looking at them makes the kernel provide them.
func (a *Arena) Free(f func(page []byte)) {
	for p := range a.pages() {
		if a.used[p/64]&(1<<(p%64)) == 0 {
			f(a.mem[pagesAt+p*pageSize:][:pageSize])
		}
	}
}

// SetVersion makes the arena one of another program's.
func (a *Arena) SetVersion(v uint64) { *a.word(wordVersion) = v }

// SetMagic makes it none at all.
func (a *Arena) SetMagic(m uint64) { *a.word(wordMagic) = m }

// Back sets the last Stamp back, in nanoseconds.
func (a *Arena) Back(ns uint64) { *a.word(wordStamp) -= ns }

// Duplicate makes an object's entry count twice, as a writer leaves it that was killed between making the new one count
// and ending the old one. The older says old.
func (a *Arena) Duplicate(k Kind, id uint64, old []byte) {
	e := a.index[key{k, id}]
	seq := *a.word(e + entrySeq)
	if err := a.Put(k, 1<<40, nil, old); err != nil {
		panic(err)
	}
	d := a.index[key{k, 1 << 40}]
	*a.word(d + entryID), *a.word(d + entrySeq) = id, seq-1
}

// Ordinary makes an arena of memory that is not sealed, whose pages come sooner.
func Ordinary() (*Arena, error) {
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.Ftruncate(fd, SmallSize); err != nil {
		return nil, err
	}
	a, err := attach(fd, SmallSize)
	if err != nil {
		return nil, err
	}
	return a, a.format()
}

// Small makes an arena whose whole mapping can be looked at.
func Small(t testing.TB) *Arena {
	t.Helper()
	fd, err := secretMemory(SmallSize)
	if err != nil {
		t.Skip(err)
	}
	a, err := attach(fd, SmallSize)
	if err != nil {
		_ = unix.Close(fd)
		t.Skip(err)
	}
	_ = a.format()
	t.Cleanup(func() { _ = a.Close() })
	return a
}
