package container

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// peer is who serves a socket, as the kernel says: the uid that listens, not the owner of a file that may have been
// exchanged. It is the same for good: an answer must not be taken for another's.
type peer struct {
	mu  sync.Mutex
	uid *uint32 // nil before the first connection
}

// dial connects to a unix socket and keeps to who served it first.
func (p *peer) dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	uid, err := peerOf(c)
	if err == nil {
		err = p.settle(uid)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: %w", path, err), c.Close())
	}
	return c, nil
}

func (p *peer) settle(uid uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.uid != nil && *p.uid != uid {
		// Fail closed: what the one said, the other must not seem to have said.
		return fmt.Errorf("uid %d serves it, and uid %d did before: restart claudefs if that is meant", uid, *p.uid)
	}
	p.uid = &uid
	return nil
}

func (p *peer) known() *uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uid
}

func peerOf(c net.Conn) (uint32, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return 0, errors.Join(cerr, err)
	}
	return cred.Uid, nil
}
