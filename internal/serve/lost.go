package serve

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// interruptLost answers what the last server left: what it had begun, and what it may have read before that. Kernels
// before 6.9 cannot send it again, and its callers would wait for ever.
func (s *shim) interruptLost(device int) {
	begun, highest := s.ledger.Lost()
	for _, u := range begun {
		answer(device, u, syscall.EINTR)
	}
	// Uniques count up by two. A request that was read and not begun lies a little beyond the last one begun; one
	// that was never read, or is of no request, is unknown to the kernel, which then says ENOENT.
	for u := highest + 2; u <= highest+2*readAhead; u += 2 {
		answer(device, u, syscall.EINTR)
	}
}

// readAhead is how many requests a server may have read beyond the last that it began: one for each of go-fuse's
// readers, and as many that needed no answer.
const readAhead = 64

// answer writes an error as the reply to a request.
func answer(device int, unique uint64, errno syscall.Errno) {
	reply := make([]byte, 16)
	binary.LittleEndian.PutUint32(reply, 16)
	binary.LittleEndian.PutUint32(reply[4:], uint32(-int32(errno)))
	binary.LittleEndian.PutUint64(reply[8:], unique)
	_, _ = unix.Write(device, reply) // ENOENT: nobody waits for that one
}
