package claudeclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"time"
)

// errDesynchronised means that an answer of an abandoned prompt may still come.
var errDesynchronised = errors.New("an earlier prompt was abandoned")

// Session is one long-lived client. Prompts are taken one at a time.
type Session struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	results chan resultLine // closed at the end of the client's output
	stderr  *tailBuffer
	stop    chan struct{} // closed by Close: nobody reads results any more
	read    chan struct{} // closed when the reader has ended

	mu    sync.Mutex
	lost  bool
	once  sync.Once
	ended error
}

// Reply is the client's answer to one prompt.
type Reply struct {
	// Text is the final text, or the error message when IsError is set.
	Text string
	// IsError is the client's own is_error.
	IsError bool
	// Duration is from sending the prompt to the end of the answer.
	Duration time.Duration
}

// resultLine is the one kind of output line that ends a prompt.
type resultLine struct {
	Type    string `json:"type"`
	Result  string `json:"result"`
	IsError bool   `json:"is_error"`
	Subtype string `json:"subtype"`
}

// Start starts cmd, which must run `claude` with [SessionArgs] and pass stdin
// and stdout through. Its Stdin, Stdout and Stderr must be unset.
func Start(cmd *exec.Cmd) (*Session, error) {
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("open stdin: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("open stdout: %w", err)
	}
	s := &Session{
		cmd:     cmd,
		stdin:   stdin,
		results: make(chan resultLine),
		stderr:  &tailBuffer{},
		stop:    make(chan struct{}),
		read:    make(chan struct{}),
	}
	cmd.Stderr = s.stderr
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start client: %w", err)
	}
	go s.readResults(stdout)
	return s, nil
}

// readResults ends with the client's output.
func (s *Session) readResults(stdout io.Reader) {
	defer close(s.read)
	defer close(s.results)
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		var r resultLine
		if json.Unmarshal(line, &r) == nil && r.Type == "result" {
			select {
			case s.results <- r:
			case <-s.stop:
			}
		}
		if err != nil {
			return
		}
	}
}

// Prompt sends one user message and waits for the end of the answer. After an
// error, that of ctx included, the session takes no more prompts.
func (s *Session) Prompt(ctx context.Context, text string) (Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return Reply{}, fmt.Errorf("prompt client: %w", errDesynchronised)
	}
	s.lost = true
	start := time.Now()
	if err := s.send(text); err != nil {
		return Reply{}, fmt.Errorf("prompt client: %w: %s", err, s.stderr)
	}
	select {
	case r, ok := <-s.results:
		if !ok {
			return Reply{}, fmt.Errorf("prompt client: %w: %s", io.ErrUnexpectedEOF, s.stderr)
		}
		s.lost = false
		if r.Result == "" {
			r.Result = r.Subtype
		}
		return Reply{Text: r.Result, IsError: r.IsError, Duration: time.Since(start)}, nil
	case <-ctx.Done():
		return Reply{}, fmt.Errorf("prompt client: %w", ctx.Err())
	}
}

func (s *Session) send(text string) error {
	line, err := json.Marshal(map[string]any{
		"type": "user",
		"message": map[string]any{
			"role":    "user",
			"content": []map[string]string{{"type": "text", "text": text}},
		},
	})
	if err != nil {
		return err
	}
	_, err = s.stdin.Write(append(line, '\n'))
	return err
}

// PID returns the process ID of the command that Start was given.
func (s *Session) PID() int { return s.cmd.Process.Pid }

// Close ends the client by closing its stdin, which also works through
// `docker exec -i`, and kills the command when it does not end in time. It
// returns how the command ended; further calls return the same.
func (s *Session) Close() error {
	s.once.Do(func() {
		close(s.stop)
		_ = s.stdin.Close()
		timer := time.AfterFunc(grace, func() { _ = s.cmd.Process.Kill() })
		defer timer.Stop()
		<-s.read // Wait closes the pipe, so the reader comes first
		if err := s.cmd.Wait(); err != nil {
			s.ended = fmt.Errorf("end client: %w: %s", err, s.stderr)
		}
	})
	return s.ended
}

// tailBuffer keeps the end of what is written to it.
type tailBuffer struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = []byte(tail(append(b.text, p...)))
	return len(p), nil
}

// String returns the end of the text.
func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
