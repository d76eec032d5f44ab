package fdstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Notify sends state to the holder, in the words of sd_notify(3): READY=1, STATUS=text, …
func (s *Store) Notify(lines ...string) error {
	if len(lines) == 0 { // an empty message would be the end of what a keeper hears
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(nil, lines...)
}

// send sends one message; s.mu is held.
func (s *Store) send(fds []int, lines ...string) error {
	text := []byte(strings.Join(lines, "\n"))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	switch {
	case s.kind == Keeper && s.socket >= 0:
		if err := unix.Sendmsg(s.socket, text, rights, nil, unix.MSG_NOSIGNAL); err != nil {
			return fmt.Errorf("tell keeper: %w", err)
		}
	case s.notify != "":
		return sendTo(s.notify, text, rights)
	}
	return nil
}

func sendTo(path string, text, rights []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer unix.Close(fd)
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	if err := unix.Sendmsg(fd, text, rights, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// WaitKeeper returns when the keeper has died, with an error when there is none to wait for. It reads what nobody ever
// sends, so it ends with the socket.
func (s *Store) WaitKeeper() error {
	s.mu.Lock()
	socket := s.socket
	s.mu.Unlock()
	if socket < 0 {
		return errors.New("wait for keeper: there is none")
	}
	for {
		fds := []unix.PollFd{{Fd: int32(socket), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(fds, -1)
		if err == nil && fds[0].Revents != 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return nil
		}
	}
}

// Renew makes another socket for a keeper that is to come, in place of that of one that died. It returns the keeper's
// end. What is kept has to be handed to that keeper as inherited descriptors.
func (s *Store) Renew() (keeper int, held map[string]int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, nil, fmt.Errorf("replace keeper: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held = map[string]int{}
	for name, fd := range s.held {
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			for _, fd := range append(slices.Collect(maps.Values(held)), pair[:]...) {
				_ = unix.Close(fd)
			}
			return -1, nil, fmt.Errorf("replace keeper: copy %s: %w", name, err)
		}
		held[name] = copied
	}
	_ = unix.Close(s.socket)
	s.socket = pair[0]
	return pair[1], held, nil
}
