package keeper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// server is a process that answers for the mount.
type server struct {
	pid      int
	pidfd    int
	child    *exec.Cmd // nil for an adopted one
	socket   int
	messages chan message
	exited   chan syscall.WaitStatus

	ready    bool // it has said that the mount answers
	stopping bool // it has said that it ends on purpose
}

// message is what a server said, with the descriptor that came along, -1 without one.
type message struct {
	lines []string
	fd    int
}

// start runs the program as server. Its descriptors are 3 and up, the keeper's socket first.
func start(cfg *Config, program *os.File, held holder, end string) (*server, error) {
	// Above all that the child is given and moves out of the way first: it would be overwritten there before it is run.
	high, err := unix.FcntlInt(program.Fd(), unix.F_DUPFD_CLOEXEC, 3*fdstore.MaxHeld)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	defer unix.Close(high)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "keeper")
	files, list := []*os.File{theirs}, []string{"keeper:3"}
	for _, name := range held.names() {
		if name == fdstore.Exe { // each server says what it is
			continue
		}
		list = append(list, name+":"+strconv.Itoa(3+len(files)))
		files = append(files, held[name])
	}
	cmd := exec.Command("/proc/self/fd/"+strconv.Itoa(high), cfg.Args...)
	cmd.Args[0] = "claudefs"
	cmd.Env = append(append([]string{}, cfg.Env...), fdstore.Var+"="+strings.Join(list, ","), fdstore.EndVar+"="+end)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = cfg.Stdin, cfg.Stdout, cfg.Stderr, files
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = unix.Close(pair[0])
		return nil, fmt.Errorf("start server: %w", err)
	}
	return newServer(cmd.Process.Pid, cmd, pair[0])
}

// adopt takes over a server that another keeper started.
func adopt(a *Adopted) (*server, error) {
	s, err := newServer(a.PID, nil, a.Socket)
	if err == nil {
		s.ready = true
	}
	return s, err
}

func newServer(pid int, child *exec.Cmd, socket int) (*server, error) {
	s := &server{pid: pid, child: child, socket: socket, messages: make(chan message), exited: make(chan syscall.WaitStatus, 1)}
	var err error
	if s.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		_ = unix.Close(socket)
		if child != nil { // another follows, and two must not serve
			_ = child.Process.Kill()
			_ = child.Wait()
		}
		return nil, fmt.Errorf("watch server %d: %w", pid, err)
	}
	return s, nil
}

func (s *server) close() {
	_ = unix.Close(s.socket)
	_ = unix.Close(s.pidfd)
}

func (s *server) signal(sig syscall.Signal) { _ = unix.PidfdSendSignal(s.pidfd, sig, nil, 0) }

// receive passes on what the server says, to the end: its death closes its end of the socket, and what it had sent
// before is still read.
func (s *server) receive() error {
	defer close(s.messages)
	text, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*4))
	for {
		n, on, _, _, err := unix.Recvmsg(s.socket, text, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return nil
		}
		s.messages <- message{strings.Split(string(text[:n]), "\n"), firstFD(oob[:on])}
	}
}

// firstFD takes the first descriptor of a control message and closes any other.
func firstFD(oob []byte) int {
	first := -1
	messages, _ := unix.ParseSocketControlMessage(oob)
	for i := range messages {
		fds, _ := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			if first < 0 {
				first = fd
			} else {
				_ = unix.Close(fd)
			}
		}
	}
	return first
}

// await waits for the server's end. That of an adopted one tells no status.
func (s *server) await() error {
	if s.child != nil {
		_ = s.child.Wait()
		status, _ := s.child.ProcessState.Sys().(syscall.WaitStatus)
		s.exited <- status
		return nil
	}
	for {
		fds := []unix.PollFd{{Fd: int32(s.pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == nil || !errors.Is(err, unix.EINTR) {
			s.exited <- syscall.WaitStatus(syscall.SIGKILL)
			return nil
		}
	}
}
