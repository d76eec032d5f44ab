package claudeclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// grace is how long a client may take to end once it has been asked to.
const grace = 10 * time.Second

// Result is the outcome of a single `claude -p` run.
type Result struct {
	// Text is what the client printed, without the final newline.
	Text string
	// Stderr is what it printed there.
	Stderr string
	// ExitCode is the client's; 0 means that the prompt was answered.
	ExitCode int
	// Duration is the whole run, process start included.
	Duration time.Duration
}

// Once runs cmd to its end. A client that ends with an exit code other than 0 is
// a Result, not an error. When ctx ends, the process is killed; inside
// `docker exec` the client then ends with its container.
func Once(ctx context.Context, cmd *exec.Cmd) (Result, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = grace
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Result{}, fmt.Errorf("start client: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	stop()
	res := Result{
		Text:     strings.TrimSpace(stdout.String()),
		Stderr:   strings.TrimSpace(stderr.String()),
		ExitCode: cmd.ProcessState.ExitCode(),
		Duration: time.Since(start),
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return res, fmt.Errorf("run client: %w", ctx.Err())
	case err != nil && !errors.As(err, &exit):
		return res, fmt.Errorf("run client: %w", err)
	}
	return res, nil
}

// tail keeps error messages short.
func tail(out []byte) string {
	const limit = 2000
	out = bytes.TrimSpace(out)
	if len(out) > limit {
		out = out[len(out)-limit:]
	}
	return string(out)
}
