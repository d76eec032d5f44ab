package fs

import (
	"context"
	"slices"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// screenTail is how many bytes of the last write are looked at again with the next one, so that a token cut in two
// is still seen.
const screenTail = 512

// stateHandle is an open state file. Writes are screened for tokens of the tree: they are the one thing that must not
// reach the disk.
//
// go-fuse's file is a field and not embedded: what it can do beyond this list, ioctl above all, would run on the
// backing file with the daemon's rights for whoever holds a descriptor.
type stateHandle struct {
	file *fusefs.LoopbackFile
	node *stateNode

	mu   sync.Mutex
	tail []byte
	end  int64 // where the last write ended
}

var (
	_ fusefs.FileReader    = (*stateHandle)(nil)
	_ fusefs.FileWriter    = (*stateHandle)(nil)
	_ fusefs.FileWritever  = (*stateHandle)(nil)
	_ fusefs.FileFlusher   = (*stateHandle)(nil)
	_ fusefs.FileFsyncer   = (*stateHandle)(nil)
	_ fusefs.FileReleaser  = (*stateHandle)(nil)
	_ fusefs.FileGetattrer = (*stateHandle)(nil)
	_ fusefs.FileSetattrer = (*stateHandle)(nil)
	_ fusefs.FileLseeker   = (*stateHandle)(nil)
	_ fusefs.FileAllocater = (*stateHandle)(nil)
)

// newStateHandle takes ownership of fd.
func newStateHandle(fd int, n *stateNode) *stateHandle {
	h := &stateHandle{file: fusefs.NewLoopbackFile(fd).(*fusefs.LoopbackFile), node: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles = append(n.handles, h)
	return h
}

// anyHandle returns an open handle of the node, nil when there is none. A RELEASE may close it meanwhile: what is then
// done with it fails with EBADF.
func (n *stateNode) anyHandle() *stateHandle {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.handles) == 0 {
		return nil
	}
	return n.handles[0]
}

// fd is the backing descriptor; it is good as long as the handle is.
func (h *stateHandle) fd() int {
	fd, _ := h.file.PassthroughFd()
	return fd
}

// Read implements fs.FileReader.
func (h *stateHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return h.file.Read(ctx, dest, off)
}

// Flush implements fs.FileFlusher.
func (h *stateHandle) Flush(ctx context.Context) syscall.Errno { return h.file.Flush(ctx) }

// Fsync implements fs.FileFsyncer.
func (h *stateHandle) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	return h.file.Fsync(ctx, flags)
}

// Release implements fs.FileReleaser.
func (h *stateHandle) Release(ctx context.Context) syscall.Errno {
	h.node.closed(h)
	return h.file.Release(ctx)
}

func (n *stateNode) closed(h *stateHandle) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handles = slices.DeleteFunc(n.handles, func(o *stateHandle) bool { return o == h })
	n.relinquish()
}

// Getattr implements fs.FileGetattrer.
func (h *stateHandle) Getattr(ctx context.Context, out *fuse.AttrOut) syscall.Errno {
	return h.file.Getattr(ctx, out)
}

// Setattr implements fs.FileSetattrer; the node calls it as the caller.
func (h *stateHandle) Setattr(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return h.file.Setattr(ctx, in, out)
}

// Lseek implements fs.FileLseeker: holes.
func (h *stateHandle) Lseek(ctx context.Context, off uint64, whence uint32) (uint64, syscall.Errno) {
	return h.file.Lseek(ctx, off, whence)
}

// allocateModes are the modes of fallocate(2) that change no other bytes than those named.
const allocateModes = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE

// Allocate implements fs.FileAllocater.
func (h *stateHandle) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if mode&^allocateModes != 0 {
		return syscall.EOPNOTSUPP
	}
	return h.file.Allocate(ctx, off, size, mode)
}

// Write implements fs.FileWriter.
func (h *stateHandle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if err := h.screen(data, off); err != nil {
		return 0, errno(err)
	}
	return h.file.Write(ctx, data, off)
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
	return h.file.Writev(ctx, data, off)
}

func (h *stateHandle) screen(data []byte, off int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := data
	if off == h.end && len(h.tail) > 0 {
		text = append(h.tail[:len(h.tail):len(h.tail)], data...)
	}
	if err := h.node.tree.cfg.Screen.Check(h.node.tree.name, text); err != nil {
		return err
	}
	h.tail = append(h.tail[:0], text[max(0, len(text)-screenTail):]...)
	h.end = off + int64(len(data))
	return nil
}
