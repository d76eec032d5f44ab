package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Damage is a place where the chain does not hold.
type Damage struct {
	Line   int // from 1
	Reason string
}

// Verify reads a log and returns how many records it has and where its chain is broken. It cannot see that the last
// lines were cut off, or the last one changed: what follows a line is its witness.
func Verify(r io.Reader) (records int, damage []Damage, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, maxLine), 2*maxLine)
	s.Split(wholeLines)
	previous, sequence := firstPrevious, uint64(0)
	line := 0
	for s.Scan() {
		line++
		var e Event
		reason := ""
		switch err := json.Unmarshal(s.Bytes(), &e); {
		case err != nil:
			reason = "not a record"
			e.Sequence = sequence + 1 // as Open counts it
		case e.Previous != previous:
			reason = "does not follow the line before it"
		case e.Sequence != sequence+1:
			reason = fmt.Sprintf("has number %d after %d", e.Sequence, sequence)
		}
		if reason == "" {
			records++
		} else {
			damage = append(damage, Damage{line, reason})
		}
		sequence, previous = e.Sequence, hash(ended(s.Bytes()))
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return records, append(damage, Damage{line + 1, "longer than any record; what follows was not read"}), nil
	}
	return records, damage, s.Err()
}

// wholeLines splits into lines with their newline: bufio.ScanLines would hide a carriage return that somebody added.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// ended is the line as it is hashed: with its newline, also when the file ends before it.
func ended(line []byte) []byte {
	if bytes.HasSuffix(line, []byte("\n")) {
		return line
	}
	return append(bytes.Clone(line), '\n')
}
