package fdstore

import (
	"encoding/binary"
	"fmt"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Kinds of requests, as FUSE numbers them, whose Refused means something else than that a request got no other answer
// than an error.
const (
	OpForget     = 2 // one node of a FORGET or BATCH_FORGET: ID is the node, Count the lookups that the kernel forgot
	OpRelease    = 18
	OpReleaseDir = 29 // ID is the handle that the kernel has closed, as with OpRelease
)

// Refused is what a keeper did in place of a server and servers have to know. With any other Opcode than those above a
// request was answered with an error that an earlier server had read: ID is its unique id, without the mark of a request
// that is sent again. What that server noted for it, the kernel never heard of.
type Refused struct {
	Opcode uint32
	ID     uint64
	Count  uint64
}

// The file behind Refusals, numbers in little endian. Keepers append to it, one at a time; servers take, one at a time,
// and may do both at once. What was taken is a hole. No number of one entry is in two pages, so that a kill leaves it
// whole or not at all.
const (
	// The first entry is the number of entries that were taken, itself not counted.
	// Each other one is Opcode, ID, Count and a zero, of 8 bytes each.
	refusedSize = 32
	pageSize    = 4096
)

// NewRefusals makes an empty file for Refusals.
func NewRefusals() (*os.File, error) {
	fd, err := unix.MemfdCreate("claudefs-refused", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make list of refused requests: %w", err)
	}
	f := os.NewFile(uintptr(fd), Refusals)
	if err := f.Truncate(refusedSize); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("make list of refused requests: %w", err)
	}
	return f, nil
}

// AppendRefused adds to the file of NewRefusals.
func AppendRefused(f *os.File, list ...Refused) error {
	if len(list) == 0 {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("note refused requests: %w", err)
	}
	b := make([]byte, 0, len(list)*refusedSize)
	for _, r := range list {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.Opcode))
		b = binary.LittleEndian.AppendUint64(b, r.ID)
		b = binary.LittleEndian.AppendUint64(b, r.Count)
		b = binary.LittleEndian.AppendUint64(b, 0)
	}
	// Not at the file's position: a server has the same one, by inheritance.
	if _, err := f.WriteAt(b, st.Size()&^(refusedSize-1)); err != nil {
		return fmt.Errorf("note refused requests: %w", err)
	}
	return nil
}

// Refused takes what a keeper did in place of a server and no server has taken yet. Each is taken before it is given
// out: a server that dies at that moment loses it, and none is given out twice, which for a forget would be worse. To
// be called before the first request is read and from time to time afterwards, for the keeper goes on until it hears
// READY=1; when does not matter, for neither a handle nor a unique id comes again, and lookups only add up. One caller at
// a time. Without a keeper there is nothing.
func (s *Store) Refused() iter.Seq[Refused] {
	return func(yield func(Refused) bool) {
		fd, ok := s.Take(Refusals)
		if !ok {
			return
		}
		defer unix.Close(fd)
		entry := make([]byte, refusedSize)
		if n, err := unix.Pread(fd, entry, 0); err != nil || n < refusedSize {
			return
		}
		taken := binary.LittleEndian.Uint64(entry)
		begin := taken
		for ; takeRefused(fd, taken, entry); taken++ {
			r := Refused{
				Opcode: uint32(binary.LittleEndian.Uint64(entry)),
				ID:     binary.LittleEndian.Uint64(entry[8:]), Count: binary.LittleEndian.Uint64(entry[16:]),
			}
			if !yield(r) {
				return
			}
		}
		if end := (taken + 1) * refusedSize &^ (pageSize - 1); taken > begin && end > pageSize {
			_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, pageSize, int64(end)-pageSize)
		}
	}
}

// takeRefused reads an entry and marks it as taken.
func takeRefused(fd int, number uint64, entry []byte) bool {
	if n, err := unix.Pread(fd, entry, int64(number+1)*refusedSize); err != nil || n < refusedSize {
		return false
	}
	_, err := unix.Pwrite(fd, binary.LittleEndian.AppendUint64(nil, number+1), 0)
	return err == nil
}
