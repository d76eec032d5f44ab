package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// refusal answers each request with EIO, on a descriptor of its own for the same connection. It knows of the protocol
// where a request's number and kind are, and which kinds want no answer.
type refusal struct {
	device int
	stop   [2]int
	group  errgroup.Group
}

const (
	deviceClone = 0x8004e500 // FUSE_DEV_IOC_CLONE
	headerSize  = 40
	opForget    = 2
	opInterrupt = 36
	opForgets   = 42 // FUSE_BATCH_FORGET
	resendCode  = 7  // FUSE_NOTIFY_RESEND
)

// refuse begins to answer with EIO. Where that is not possible the connection is aborted: requests that nobody ever
// answers would leave their callers, dockerd perhaps, in a sleep that no signal ends.
func (k *Keeper) refuse() {
	if k.refusal != nil || k.held[fdstore.Device] == nil {
		return
	}
	k.cfg.Log.Error("No server: requests are answered with EIO", "reason", k.status.LastEnd, "message", k.status.Message)
	k.write(Failing)
	r, err := newRefusal(int(k.held[fdstore.Device].Fd()))
	if err != nil {
		k.cfg.Log.Error("Requests cannot be answered; the mount is aborted", "err", err)
		k.abort()
		return
	}
	k.refusal = r
}

func (k *Keeper) stopRefusing() {
	if k.refusal != nil {
		k.refusal.close()
		k.refusal = nil
	}
}

// abort ends the connection: every request, waiting or new, then fails with ENOTCONN.
func (k *Keeper) abort() {
	if f := k.held[fdstore.Abort]; f != nil {
		_, _ = f.WriteString("1")
	}
}

func newRefusal(connection int) (*refusal, error) {
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	from := uint32(connection)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), deviceClone, uintptr(unsafe.Pointer(&from))); errno != 0 {
		return nil, errors.Join(fmt.Errorf("clone FUSE device: %w", errno), unix.Close(device))
	}
	r := &refusal{device: device}
	if err := unix.Pipe2(r.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), unix.Close(device))
	}
	resend := make([]byte, 16)
	binary.LittleEndian.PutUint32(resend, 16)
	binary.LittleEndian.PutUint32(resend[4:], resendCode)
	_, _ = unix.Write(connection, resend) // what the dead server had read
	r.group.Go(r.answer)
	return r, nil
}

// answer runs until close.
func (r *refusal) answer() error {
	buf := make([]byte, 1<<20)
	for {
		fds := []unix.PollFd{{Fd: int32(r.device), Events: unix.POLLIN}, {Fd: int32(r.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for requests: %w", err)
		}
		if fds[1].Revents != 0 || fds[0].Revents&unix.POLLERR != 0 {
			return nil
		}
		n, err := unix.Read(r.device, buf)
		if err != nil || n < headerSize {
			continue
		}
		switch binary.LittleEndian.Uint32(buf[4:]) {
		case opForget, opForgets, opInterrupt:
			continue
		}
		reply := make([]byte, 16)
		binary.LittleEndian.PutUint32(reply, 16)
		binary.LittleEndian.PutUint32(reply[4:], ^uint32(syscall.EIO)+1)
		copy(reply[8:], buf[8:16])
		_, _ = unix.Write(r.device, reply)
	}
}

func (r *refusal) close() {
	_ = os.NewFile(uintptr(r.stop[1]), "stop").Close()
	_ = r.group.Wait()
	_ = unix.Close(r.stop[0])
	_ = unix.Close(r.device)
}
