package claudeclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
)

// Sandbox is a network namespace with nothing but loopback, and a mount
// namespace with its own /etc/hosts. A sleeping process holds both; programs
// join it by Command. It needs root.
type Sandbox struct {
	holder *exec.Cmd
	stdin  io.Closer // the holder ends when this does, so also with a killed test
	closed atomic.Bool
}

// holderScript is told the hosts file and the net namespace of its parent. It
// fails rather than hold a namespace which it shares, and ends with its stdin.
const holderScript = `set -e
test "$(readlink /proc/self/ns/net)" != "$2"
mount --make-rprivate /
mount --bind "$1" /etc/hosts
echo ready
read -r _ || true`

// NewSandbox starts a sandbox whose /etc/hosts is hostsFile.
func NewSandbox(hostsFile string) (*Sandbox, error) {
	own, err := os.Readlink("/proc/thread-self/ns/net") // of a thread: the main one may be elsewhere
	if err != nil {
		return nil, fmt.Errorf("read own network namespace: %w", err)
	}
	stderr := &tailBuffer{}
	holder := exec.Command("sh", "-c", holderScript, "sh", hostsFile, own)
	holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
	}
	holder.Stderr = stderr
	stdin, err := holder.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("open stdin: %w", err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open stdout: %w", err)
	}
	if err := holder.Start(); err != nil {
		return nil, fmt.Errorf("start sandbox: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		stdin.Close()
		return nil, errors.Join(fmt.Errorf("set up sandbox: %s", stderr), err, holder.Wait())
	}
	return &Sandbox{holder: holder, stdin: stdin}, nil
}

// PID returns the process that holds the namespaces.
func (s *Sandbox) PID() int { return s.holder.Process.Pid }

// Command prepares a program that runs inside the sandbox, in directory dir.
// Killing it kills the program itself. Its environment is the caller's to set.
func (s *Sandbox) Command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	join := []string{
		"-t", strconv.Itoa(s.PID()), "-n", "-m", "--",
		"sh", "-c", `cd "$0" && exec "$@"`, dir, name,
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(join, args...)...)
	// Fail closed: the ID of a holder that has ended may be anybody's.
	if s.closed.Load() {
		cmd.Err = errors.New("sandbox is closed")
	}
	return cmd
}

// Close ends the holder. The namespaces last until the programs in them end.
func (s *Sandbox) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stdin.Close()
	if err := s.holder.Wait(); err != nil {
		return fmt.Errorf("end sandbox: %w", err)
	}
	return nil
}
