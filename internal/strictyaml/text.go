package strictyaml

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a file. The parser takes time that grows with the square of the number of tokens, so they are close to
// what real files need: a policy of a thousand rules has 150 KiB.
const (
	maxSize  = 256 << 10 // bytes
	maxLine  = 4 << 10   // bytes of one line
	maxLines = 8000
	maxDepth = 32 // of brackets
)

// checkText refuses what the parser must not be given: text whose reading would cost it its stack or minutes, and
// what it would read otherwise than a person does.
func checkText(name string, b []byte) error {
	if len(b) > maxSize {
		return fmt.Errorf("%s: %d bytes, at most %d are accepted", name, len(b), maxSize)
	}
	if n := bytes.Count(b, []byte("\n")); n > maxLines {
		return fmt.Errorf("%s: %d lines, at most %d are accepted", name, n, maxLines)
	}
	var d documents
	depth, n := 0, 0
	for line := range strings.Lines(string(b)) {
		n++
		if len(line) > maxLine {
			return fmt.Errorf("%s:%d: line of %d bytes, at most %d are accepted", name, n, len(line), maxLine)
		}
		if col, r := notText(line); col > 0 {
			return fmt.Errorf("%s:%d:%d: not text (%U)", name, n, col, r)
		}
		if depth = deepest(line, depth); depth > maxDepth {
			return fmt.Errorf("%s:%d: nested too deeply", name, n)
		}
		if d.another(line) {
			return fmt.Errorf("%s:%d: want one YAML document, found more", name, n)
		}
	}
	return nil
}

// notText returns the column of the first character that is no text, 0 when there is none: broken UTF-8, control
// characters, and those that show nothing or turn the order of what is shown (unicode.Cf, the byte order mark among
// them). A carriage return may only end a line: within one it would hide what follows on a terminal.
func notText(line string) (column int, bad rune) {
	for i, r := range strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r") {
		if r == utf8.RuneError || unicode.IsControl(r) && r != '\t' || unicode.Is(unicode.Cf, r) {
			return i + 1, r
		}
	}
	return 0, 0
}

// deepest follows the depth of brackets through a line: more than maxDepth once it was there. Brackets that close
// nothing do not count, or they would hide as many that open.
func deepest(line string, depth int) int {
	for _, c := range []byte(line) {
		switch c {
		case '[', '{':
			if depth++; depth > maxDepth {
				return depth
			}
		case ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return depth
}

// documents tells one document from several. The parser drops what follows an empty one.
type documents struct{ content, ended bool }

// another reports whether line belongs to a second document.
func (d *documents) another(line string) bool {
	line = strings.TrimRight(line, " \t\r\n")
	marker, _, _ := strings.Cut(line, " ")
	switch {
	case line == "" || strings.HasPrefix(strings.TrimLeft(line, " \t"), "#"):
		return false
	case d.ended || d.content && marker == "---":
		return true
	case marker == "...":
		d.ended = true
	}
	d.content = true
	return false
}
