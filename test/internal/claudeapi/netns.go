package claudeapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errShared means that a namespace reaches more than loopback.
var errShared = errors.New("network namespace reaches more than loopback")

// listenInNetns opens 127.0.0.1:443 in the network namespace of pid. A socket
// stays in the namespace where it was made, so only the making happens there.
func listenInNetns(pid int) (net.Listener, error) {
	type result struct {
		ln  net.Listener
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		ln, err, back := enterAndListen(pid)
		if back {
			runtime.UnlockOSThread()
		}
		// Otherwise the thread is in a foreign namespace: it stays locked, and the
		// runtime destroys it when this goroutine ends.
		done <- result{ln, err}
	}()
	r := <-done
	return r.ln, r.err
}

// enterAndListen runs on a locked thread; back reports whether the thread is in
// its own namespace again.
func enterAndListen(pid int) (ln net.Listener, err error, back bool) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err), true
	}
	defer own.Close()
	other, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open network namespace of %d: %w", pid, err), true
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter network namespace of %d: %w", pid, err), true
	}
	ln, err = listenLoopback()
	back = unix.Setns(int(own.Fd()), unix.CLONE_NEWNET) == nil
	return ln, err, back
}

// listenLoopback brings lo up and listens, in the calling thread's namespace.
func listenLoopback() (net.Listener, error) {
	// Fail closed: with a second link the client could reach the real servers.
	if err := onlyLoopback(); err != nil {
		return nil, err
	}
	if err := linkUp("lo"); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:443")
	if err != nil {
		return nil, fmt.Errorf("listen in network namespace: %w", err)
	}
	return ln, nil
}

// onlyLoopback allows links that are down: some kernels make tunl0 and sit0 in
// every namespace.
func onlyLoopback() error {
	links, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback == 0 && link.Flags&net.FlagUp != 0 {
			return fmt.Errorf("check link %s: %w", link.Name, errShared)
		}
	}
	return nil
}

// linkUp sets IFF_UP; for lo the kernel then adds 127.0.0.1 itself.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("name link %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("read flags of link %s: %w", name, err)
	}
	if req.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}
