package fs

import (
	"context"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

// screenTail is how many bytes of the last write are looked at again with the next one, so that a token cut in two
// is still seen.
const screenTail = 512

// stateHandle is an open state file. Writes are screened for tokens of the tree: they are the one thing that must not
// reach the disk.
type stateHandle struct {
	*fusefs.LoopbackFile
	tree *treeNode

	mu   sync.Mutex
	tail []byte
	end  int64 // where the last write ended
}

// newStateHandle takes ownership of fd.
func newStateHandle(fd int, t *treeNode) *stateHandle {
	return &stateHandle{LoopbackFile: fusefs.NewLoopbackFile(fd).(*fusefs.LoopbackFile), tree: t}
}

// fd is the backing descriptor; it is good as long as the handle is.
func (h *stateHandle) fd() int {
	fd, _ := h.LoopbackFile.PassthroughFd()
	return fd
}

// PassthroughFd keeps the kernel's passthrough off: writes have to be seen.
func (h *stateHandle) PassthroughFd() (int, bool) { return -1, false }

// Ioctl implements fs.FileIoctler: none. The backing file's would run with the daemon's rights, chattr's for example.
func (h *stateHandle) Ioctl(context.Context, uint32, uint64, []byte, []byte) (int32, syscall.Errno) {
	return 0, syscall.ENOTTY
}

// Write implements fs.FileWriter.
func (h *stateHandle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if err := h.screen(data, off); err != nil {
		return 0, errno(err)
	}
	return h.LoopbackFile.Write(ctx, data, off)
}

// Writev implements fs.FileWritever.
func (h *stateHandle) Writev(ctx context.Context, data [][]byte, off int64) (uint32, syscall.Errno) {
	at := off
	for _, d := range data {
		if err := h.screen(d, at); err != nil {
			return 0, errno(err)
		}
		at += int64(len(d))
	}
	return h.LoopbackFile.Writev(ctx, data, off)
}

func (h *stateHandle) screen(data []byte, off int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := data
	if off == h.end && len(h.tail) > 0 {
		text = append(h.tail[:len(h.tail):len(h.tail)], data...)
	}
	if err := h.tree.cfg.Screen.Check(h.tree.name, text); err != nil {
		return err
	}
	h.tail = append(h.tail[:0], text[max(0, len(text)-screenTail):]...)
	h.end = off + int64(len(data))
	return nil
}

var (
	_ fusefs.FileWriter   = (*stateHandle)(nil)
	_ fusefs.FileWritever = (*stateHandle)(nil)
)
