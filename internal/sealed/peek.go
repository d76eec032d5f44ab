package sealed

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Peek reads one object's body from an arena that another process uses, and changes nothing; nil when there is none.
// ErrVersion when this program does not know its format. The object must be one that seldom changes.
func Peek(fd int, k Kind, id uint64) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("look at sealed memory: %w", err)
	}
	if st.Size != DefaultSize && st.Size != SmallSize {
		return nil, fmt.Errorf("look at sealed memory: %w: %d bytes", ErrVersion, st.Size)
	}
	mem, err := unix.Mmap(fd, 0, int(st.Size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("look at sealed memory: %w", err)
	}
	defer func() { _ = unix.Munmap(mem) }()
	a := &Arena{fd: fd, mem: mem}
	if err := a.check(); err != nil {
		return nil, err
	}
	for i := range entries {
		e := entriesAt + i*entrySize
		if *a.word32(e + entryState) == stateUsed && a.sound(e) && Kind(*a.word32(e + entryKind)) == k && *a.word(e + entryID) == id {
			_, body := a.parts(e)
			return slices.Clone(body), nil
		}
	}
	return nil, nil
}

// check says whether this program knows the format.
func (a *Arena) check() error {
	if *a.word(wordMagic) != magic || *a.word(wordVersion) != version {
		return fmt.Errorf("open sealed memory: %w: it has %d, this program knows %d", ErrVersion, *a.word(wordVersion), version)
	}
	return nil
}
