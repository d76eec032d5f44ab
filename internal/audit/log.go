package audit

import (
	"bufio"
	"bytes"
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
// into a record of its own kind: it is kept as it is and ended with a newline, and Verify names it.
func Open(path string) (*Log, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	lock := flock.New(path+".lock", flock.SetPermissions(0o600))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return nil, fmt.Errorf("open audit log %s: another daemon writes it: %w", path, errors.Join(err, os.ErrExist))
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

// resume finds the last line's sequence number and hash.
func (l *Log) resume() error {
	l.previous = firstPrevious
	last, err := lastLine(l.f)
	if err != nil {
		return fmt.Errorf("read audit log: %w", err)
	}
	if len(last) == 0 {
		return nil
	}
	if last[len(last)-1] != '\n' {
		if _, err := l.f.Write([]byte("\n")); err != nil {
			return fmt.Errorf("end half-written audit record: %w", err)
		}
		last = append(last, '\n')
	}
	var e Event
	_ = json.Unmarshal(last, &e) // a half-written line has no number; the chain goes on from its hash
	l.sequence, l.previous = e.Sequence, hash(last)
	return nil
}

// lastLine returns the last line of f, with its newline if it has one.
func lastLine(f *os.File) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return nil, err
	}
	n := min(size, 2*maxLine)
	buf := make([]byte, n)
	if _, err := f.ReadAt(buf, size-n); err != nil {
		return nil, err
	}
	i := bytes.LastIndexByte(buf[:len(buf)-1], '\n')
	return buf[i+1:], nil
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
	e.Sequence, e.Previous, e.Time = l.sequence+1, l.previous, time.Now().UTC()
	line, err := json.Marshal(&e)
	if err != nil {
		return fmt.Errorf("write audit record: %w", err)
	}
	return l.write(&e, append(line, '\n'))
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

// Damage is a place where the chain does not hold.
type Damage struct {
	Line   int // from 1
	Reason string
}

// Verify reads a log and returns how many records it has and where its chain is broken.
func Verify(r io.Reader) (records int, damage []Damage, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, maxLine), 2*maxLine)
	previous, sequence := firstPrevious, uint64(0)
	line := 0
	for s.Scan() {
		line++
		var e Event
		switch err := json.Unmarshal(s.Bytes(), &e); {
		case err != nil:
			damage = append(damage, Damage{line, "not a record"})
		case e.Previous != previous:
			damage = append(damage, Damage{line, "does not follow the line before it"})
		case e.Sequence != sequence+1:
			damage = append(damage, Damage{line, fmt.Sprintf("has number %d after %d", e.Sequence, sequence)})
		default:
			records++
		}
		sequence, previous = e.Sequence, hash(append(s.Bytes(), '\n'))
	}
	return records, damage, s.Err()
}
