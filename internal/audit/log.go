package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// maxLine bounds a record, in bytes.
const maxLine = 64 << 10

var firstPrevious = strings.Repeat("0", sha256.Size*2)

// Log is an open audit log. One process writes it at a time.
type Log struct {
	mu       sync.Mutex
	f        *os.File
	lock     *flock.Flock
	sequence uint64
	previous string
	broken   error
}

// Open opens or makes the log and continues its chain. A half-written last line, as a crash leaves it, is cut off
// into a record of its own kind: it is kept as it is and ended with a newline, and Verify names it. A log that another
// process writes is an error that wraps fs.ErrExist.
func Open(path string) (*Log, error) { return OpenWithin(path, 0) }

// OpenWithin is Open for commands that run beside each other: it waits for another writer to end.
func OpenWithin(path string, wait time.Duration) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	lock, err := takeLock(path+".lock", wait)
	if err != nil {
		return nil, fmt.Errorf("open audit log %s: another claudefs writes it: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l := &Log{f: f, lock: lock}
	if err := l.resume(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func takeLock(path string, wait time.Duration) (*flock.Flock, error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if !ok && err == nil && wait > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		ok, err = lock.TryLockContext(ctx, 20*time.Millisecond)
	}
	if err != nil || !ok {
		return nil, errors.Join(os.ErrExist, err, lock.Close())
	}
	return lock, nil
}

// resume finds the last line's sequence number and hash.
func (l *Log) resume() error {
	l.sequence, l.previous = 0, firstPrevious
	lines, err := lastLines(l.f)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	if len(lines) == 0 {
		return nil
	}
	last := &lines[len(lines)-1]
	if (*last)[len(*last)-1] != '\n' {
		if _, err := l.f.Write([]byte("\n")); err != nil {
			return fmt.Errorf("end half-written audit record: %w", err)
		}
		*last = append(*last, '\n')
	}
	l.previous = hash(*last)
	// A half-written line has no number that could be read, but it takes one.
	for i := len(lines) - 1; i >= 0; i-- {
		var e Event
		if json.Unmarshal(lines[i], &e) == nil {
			l.sequence += e.Sequence
			return nil
		}
		l.sequence++
	}
	return nil
}

// lastLines returns the lines at the end of f, each with its newline if it has one: at least the last one whole, since
// no record is longer than maxLine.
func lastLines(f *os.File) ([][]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return nil, err
	}
	n := min(size, 4*maxLine)
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, size-n); err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(buf, []byte("\n"))
	if n < size && len(lines) > 1 {
		lines = lines[1:] // begins within a line
	}
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	return lines, nil
}

func hash(line []byte) string {
	h := sha256.Sum256(line)
	return hex.EncodeToString(h[:])
}

// Record appends an event; Sequence, Time and Previous are filled in. When it returns an error nothing may be
// disclosed on the event's strength.
func (l *Log) Record(e Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil { // an earlier write failed, perhaps half-way: find the end again
		if l.broken = l.resume(); l.broken != nil {
			return l.broken
		}
	}
	e.SchemaVersion = 1
	e.Sequence, e.Previous, e.Time = l.sequence+1, l.previous, time.Now().UTC()
	line, err := json.Marshal(&e)
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	if line = append(line, '\n'); len(line) > maxLine {
		// Fail closed: a longer line could not be found again after a crash, and what is not recorded is not disclosed.
		return fmt.Errorf("write audit record: %d bytes, at most %d are accepted", len(line), maxLine)
	}
	return l.write(&e, line)
}

func (l *Log) write(e *Event, line []byte) error {
	if _, err := l.f.Write(line); err != nil {
		l.broken = err // a part of the line may be there: look before the next one
		return fmt.Errorf("write audit record: %w", err)
	}
	l.sequence, l.previous = e.Sequence, hash(line)
	if !e.durable() {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("sync audit record: %w", err)
	}
	return nil
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.f.Sync(), l.f.Close(), l.lock.Close())
}
