package ledger

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Peek reads the INIT exchange of a ledger that another process uses, and changes nothing. ErrVersion when this program
// does not know its format.
func Peek(fd int) (request, reply []byte, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, nil, fmt.Errorf("look at connection state: %w", err)
	}
	if st.Size < journalAt {
		return nil, nil, fmt.Errorf("look at connection state: %w: %d bytes", ErrVersion, st.Size)
	}
	mem, err := unix.Mmap(fd, 0, journalAt, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("look at connection state: %w", err)
	}
	l := &Ledger{fd: fd, mem: mem}
	defer func() { _ = unix.Munmap(mem) }()
	if err := l.checkHeader(st.Size); err != nil {
		return nil, nil, err
	}
	request, reply = l.Init()
	return request, reply, nil
}
