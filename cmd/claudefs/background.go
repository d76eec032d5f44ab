package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// background starts this same command again without --daemon, in a session of its own, and returns when it has said
// that the mount answers. Its log goes to claudefs.log in the runtime directory.
func background(ctx context.Context, e *env, runtimeDir string) error {
	if err := os.MkdirAll(runtimeDir, 0o755); err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	logPath := filepath.Join(runtimeDir, "claudefs.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	defer logFile.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", foreground(os.Args[1:])...)
	cmd.Env = append(os.Environ(), backgroundVar+"=1", envName("daemon")+"=false")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.Stdin, logFile, logFile
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	return awaitReady(ctx, e, cmd, r, logPath)
}

// awaitReady waits for the daemon's word. If it ends instead, its log is shown and its exit code is ours.
func awaitReady(ctx context.Context, e *env, cmd *exec.Cmd, ready io.Reader, logPath string) error {
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	b, err := io.ReadAll(io.LimitReader(ready, 6))
	if err == nil && string(b) == "ready\n" {
		fmt.Fprintf(e.Stdout, "claudefs: ready: daemon %d, log in %s\n", cmd.Process.Pid, logPath)
		return cmd.Process.Release()
	}
	waitErr := cmd.Wait()
	if text, rerr := os.ReadFile(logPath); rerr == nil {
		_, _ = e.Stderr.Write(text)
	}
	var exit *exec.ExitError
	if errors.As(waitErr, &exit) && exit.ExitCode() > 0 {
		return childError{exit.ExitCode()}
	}
	return fmt.Errorf("start daemon: it ended before the mount answered: %w", waitErr)
}

// childError is the end of a daemon that has printed its own error.
type childError struct{ code int }

func (e childError) Error() string { return fmt.Sprintf("the daemon ended with exit code %d", e.code) }

// foreground drops --daemon. Its variable is overridden where the command is started.
func foreground(args []string) []string {
	out := make([]string, 0, len(args))
	for _, a := range args {
		if a != "--daemon" && a != "--daemon=true" {
			out = append(out, a)
		}
	}
	return out
}
