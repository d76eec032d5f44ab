package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// lineCheck is what is wrong with the lines of a journal.
type lineCheck struct {
	lost, firstLost             int
	duplicated, firstDuplicated int
	wrong                       []string // anything else
}

// checkLines looks for the numbered lines in data: those acknowledged have to
// be there once, those whose write failed may be, all in order.
func checkLines(data []byte, acked []bool) lineCheck {
	var found lineCheck
	counts := make([]int, len(acked))
	last := -1
	for text := range bytes.Lines(data) {
		n, ok := lineNumber(text)
		if !ok || n >= len(acked) {
			found.wrong = append(found.wrong, fmt.Sprintf("stray line after line %d", last))
			continue
		}
		counts[n]++
		switch {
		case counts[n] > 1:
			found.addDuplicated(n)
		case n < last:
			found.wrong = append(found.wrong, fmt.Sprintf("line %d after line %d", n, last))
		}
		last = max(last, n)
	}
	for n, count := range counts {
		if acked[n] && count == 0 {
			found.addLost(n)
		}
	}
	return found
}

// lineNumber parses a whole line.
func lineNumber(text []byte) (int, bool) {
	line := struct {
		Line int    `json:"line"`
		Pad  string `json:"pad"`
	}{Line: -1}
	err := json.Unmarshal(text, &line)
	whole := err == nil && bytes.HasSuffix(text, []byte("\n")) && line.Pad == padding
	return line.Line, whole && line.Line >= 0
}

// addLost counts line n as lost.
func (c *lineCheck) addLost(n int) {
	if c.lost == 0 {
		c.firstLost = n
	}
	c.lost++
}

// addDuplicated counts one more copy of line n.
func (c *lineCheck) addDuplicated(n int) {
	if c.duplicated == 0 {
		c.firstDuplicated = n
	}
	c.duplicated++
}
