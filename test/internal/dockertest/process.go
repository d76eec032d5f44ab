package dockertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// pollInterval is how often a state that sends no event is looked at.
	pollInterval = 20 * time.Millisecond

	// startTimeout bounds a start on a busy machine; 1 s is usual.
	startTimeout = 60 * time.Second

	// haltTimeout bounds an orderly end. Without --live-restore dockerd first
	// stops the containers, which takes 10 s if they ignore their stop signal.
	haltTimeout = 30 * time.Second
)

// errNotRunning is returned for an operation that needs the daemon process.
var errNotRunning = errors.New("daemon is not running")

// process is one run of the daemon.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is reaped
	err  error         // how it ended; valid after done
}

// Resume starts the daemon after Halt, and returns when it answers.
func (d *Daemon) Resume(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped || d.proc != nil {
		return errors.New("start daemon: already started or stopped for good")
	}
	p, err := d.spawn()
	if err != nil {
		return fmt.Errorf("start daemon: %w", err)
	}
	d.proc = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := d.waitReady(ctx, p); err != nil {
		return fmt.Errorf("start daemon: %w; its log ends:\n%s", err, tail(d.Log(), 20))
	}
	return nil
}

// spawn starts the daemon in a session of its own, so that an interrupt typed at
// the terminal does not end it before the guardian has removed its containers.
func (d *Daemon) spawn() (*process, error) {
	program, err := lookPath(d.engine.program)
	if err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(d.logPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer logFile.Close() // dockerd has its own descriptor

	cmd := exec.Command(program, d.args...)
	cmd.Env = d.environ()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run %s: %w", d.engine.program, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// waitReady polls until the daemon answers, ends, or ctx is done.
func (d *Daemon) waitReady(ctx context.Context, p *process) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.socketPath())
		},
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ping(ctx, client) {
			return nil
		}
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("%s ended early: %w", d.engine.program, p.err)
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", d.engine.program, ctx.Err())
		}
	}
}

func ping(ctx context.Context, client *http.Client) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Halt ends the daemon with SIGTERM and keeps its tree, for tests of a runtime
// that is down. Containers go on running only with --live-restore.
func (d *Daemon) Halt(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.proc
	if p == nil || d.stopped {
		return fmt.Errorf("halt daemon: %w", errNotRunning)
	}
	// An error means that it is gone already, which done tells too.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, haltTimeout)
	defer cancel()
	select {
	case <-p.done:
		d.proc = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("halt daemon: %w", ctx.Err())
	}
}

// Pid returns the process ID of the daemon, 0 while it is halted.
func (d *Daemon) Pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.proc == nil || d.stopped {
		return 0
	}
	return d.proc.cmd.Process.Pid
}
