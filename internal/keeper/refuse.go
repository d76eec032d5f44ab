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
// where a request's number and kind are, which kinds want no answer, and what servers have to hear of.
//
// A request is in one place: it waits to be read, or it is with the device that it was read from, and only an answer
// from that device counts. So while the refusal and a server read side by side, which they do from the moment that a
// server serves until the keeper has heard so, either of them answers, and once. What the refusal has read it answers
// before it ends, or the server's FUSE_NOTIFY_RESEND has taken it away: nothing is with its device when that is closed,
// which would end it. It does not leave a RELEASE for the next server to be sent again: at most max_background of them
// may be without an answer, 12 by default, and whoever reads a file then hangs.
type refusal struct {
	device int
	notes  *os.File // fdstore.Refusals
	stop   [2]int
	group  errgroup.Group
	ended  chan error
}

const (
	deviceClone = 0x8004e500 // FUSE_DEV_IOC_CLONE
	opInterrupt = 36
	opForgets   = 42      // FUSE_BATCH_FORGET
	resendCode  = 7       // FUSE_NOTIFY_RESEND
	resent      = 1 << 63 // in the unique id of a request that is sent again

	headerSize = 40
	// bufferSize is above what any connection asks for: 1 MiB to write, and what is before that.
	bufferSize = 1<<20 + 4096
)

// refuse begins to answer with EIO. Where that is not possible the connection is aborted: requests that nobody ever
// answers would leave their callers, dockerd perhaps, in a sleep that no signal ends.
func (k *Keeper) refuse() {
	if k.held[fdstore.Device] == nil || k.gaveUp {
		return
	}
	var err error
	if k.refusal == nil {
		k.cfg.Log.Error("No server: requests are answered with EIO", "reason", k.status.LastEnd, "message", k.status.Message)
		k.write(Failing)
		k.refusal, err = newRefusal(int(k.held[fdstore.Device].Fd()), k.held[fdstore.Refusals])
	} else {
		err = k.refusal.failure()
	}
	if err != nil {
		k.cfg.Log.Error("Requests cannot be answered; the mount is aborted", "err", err)
		k.gaveUp = true
		k.abort()
	}
}

// recall has what dead servers had read sent again, for the refusal to answer. To be called only when no server can
// answer any more: it would take from a server what that is working on, and have it done twice.
func (k *Keeper) recall() {
	if k.refusal == nil || k.recalled {
		return
	}
	k.recalled = true
	message := make([]byte, 16)
	binary.LittleEndian.PutUint32(message, 16)
	binary.LittleEndian.PutUint32(message[4:], resendCode)
	_, _ = unix.Write(int(k.held[fdstore.Device].Fd()), message) // before Linux 6.9 they wait for the next server
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

func newRefusal(connection int, notes *os.File) (*refusal, error) {
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	from := uint32(connection)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(device), deviceClone, uintptr(unsafe.Pointer(&from))); errno != 0 {
		return nil, errors.Join(fmt.Errorf("clone FUSE device: %w", errno), unix.Close(device))
	}
	r := &refusal{device: device, notes: notes, ended: make(chan error, 1)}
	if err := unix.Pipe2(r.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("make pipe: %w", err), unix.Close(device))
	}
	r.group.Go(func() error {
		r.ended <- r.answer()
		return nil
	})
	return r, nil
}

// failure is why nothing is answered any more, nil as long as it is.
func (r *refusal) failure() error {
	select {
	case err := <-r.ended:
		return err
	default:
		return nil
	}
}

// answer runs until close, or until the connection has ended.
func (r *refusal) answer() error {
	buf := make([]byte, bufferSize)
	for {
		fds := []unix.PollFd{{Fd: int32(r.device), Events: unix.POLLIN}, {Fd: int32(r.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for requests: %w", err)
		}
		if fds[1].Revents != 0 || fds[0].Revents&unix.POLLERR != 0 {
			return nil
		}
		n, err := unix.Read(r.device, buf)
		switch {
		case errors.Is(err, unix.ENODEV):
			return nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT): // a server was faster, or the caller gave up
			continue
		case err != nil:
			return fmt.Errorf("read requests: %w", err)
		}
		if n >= headerSize {
			r.take(buf[:n])
		}
		clear(buf[:n]) // what was to be written may be a credential
	}
}

// take answers a request, and notes what servers have to hear of. A list that is full is no reason to let anybody
// wait: nodes and handles then stay until the mount ends.
func (r *refusal) take(request []byte) {
	op, unique := binary.LittleEndian.Uint32(request[4:]), binary.LittleEndian.Uint64(request[8:])
	body := request[headerSize:]
	switch op {
	case opInterrupt:
	case fdstore.OpForget, opForgets:
		_ = fdstore.AppendRefused(r.notes, forgets(op, request)...)
	case fdstore.OpRelease, fdstore.OpReleaseDir:
		if len(body) >= 8 { // first: twice does no harm
			_ = fdstore.AppendRefused(r.notes, fdstore.Refused{Opcode: op, ID: binary.LittleEndian.Uint64(body)})
		}
		_ = r.reply(unique)
	default:
		// Afterwards: what a server took away in this moment, and answers, was not refused.
		if err := r.reply(unique); err == nil && unique&resent != 0 {
			_ = fdstore.AppendRefused(r.notes, fdstore.Refused{Opcode: op, ID: unique &^ resent})
		}
	}
}

// forgets are the nodes of a FORGET or BATCH_FORGET, which nobody answers and the kernel does not send again.
func forgets(op uint32, request []byte) []fdstore.Refused {
	forget := func(node, lookups []byte) fdstore.Refused {
		return fdstore.Refused{Opcode: fdstore.OpForget, ID: binary.LittleEndian.Uint64(node), Count: binary.LittleEndian.Uint64(lookups)}
	}
	body := request[headerSize:]
	if len(body) < 8 {
		return nil
	}
	if op == fdstore.OpForget {
		return []fdstore.Refused{forget(request[16:], body)}
	}
	var list []fdstore.Refused
	count := binary.LittleEndian.Uint32(body)
	for body = body[8:]; len(body) >= 16 && count > 0; count-- {
		list = append(list, forget(body, body[8:]))
		body = body[16:]
	}
	return list
}

func (r *refusal) reply(unique uint64) error {
	reply := make([]byte, 16)
	binary.LittleEndian.PutUint32(reply, 16)
	binary.LittleEndian.PutUint32(reply[4:], ^uint32(syscall.EIO)+1)
	binary.LittleEndian.PutUint64(reply[8:], unique)
	_, err := unix.Write(r.device, reply)
	return err
}

func (r *refusal) close() {
	_ = os.NewFile(uintptr(r.stop[1]), "stop").Close()
	_ = r.group.Wait()
	_ = unix.Close(r.stop[0])
	_ = unix.Close(r.device)
}
