package dockertest

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed guardian.sh
var guardianScript string

// finishTimeout bounds the guardian's work; it has limits of its own below it.
const finishTimeout = 120 * time.Second

// guardian is the process that cleans up after a daemon; see the package's
// documentation.
type guardian struct {
	root   string
	cmd    *exec.Cmd
	leash  *os.File // its closing starts the clean-up
	output *os.File
}

// startGuardian runs the script as guardian of the tree root. Its environment
// is env, which has what the script asks for.
func startGuardian(root, script string, env []string) (*guardian, error) {
	output, err := os.Create(filepath.Join(root, "guardian.log"))
	if err != nil {
		return nil, fmt.Errorf("start guardian: %w", err)
	}
	end, leash, err := os.Pipe() // close-on-exec: no other child keeps it open
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start guardian: %w", err), output.Close())
	}
	defer end.Close()

	cmd := exec.Command("/bin/sh", "-c", script, "dockertest-guardian")
	cmd.Env = env
	cmd.Dir = "/"
	cmd.Stdin = end
	// A file, not a buffer: a pipe would end with the test process.
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start guardian: %w", err), leash.Close(), output.Close())
	}
	return &guardian{root: root, cmd: cmd, leash: leash, output: output}, nil
}

// finish makes the guardian clean up, waits for it, and checks its work.
func (g *guardian) finish() error {
	defer g.output.Close()
	_ = g.leash.Close()
	timer := time.AfterFunc(finishTimeout, func() { _ = g.cmd.Process.Kill() })
	defer timer.Stop()
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("clean up daemon: %w: %s", err, g.said())
	}
	if err := g.leftovers(); err != nil {
		return fmt.Errorf("clean up daemon: %w: %s", err, g.said())
	}
	return nil
}

// leftovers names what is still there of the tree.
func (g *guardian) leftovers() error {
	if _, err := os.Lstat(g.root); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s still exists", g.root)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("read mounts: %w", err)
	}
	if strings.Contains(string(mounts), g.root+"/") {
		return fmt.Errorf("mounts are left below %s", g.root)
	}
	return nil
}

// said returns the guardian's output. The file has no name any more.
func (g *guardian) said() string {
	if _, err := g.output.Seek(0, io.SeekStart); err != nil {
		return err.Error()
	}
	data, err := io.ReadAll(g.output)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data))
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
