package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxSize is the largest settings file that is looked at, in bytes. Real ones have some KiB, .claude.json up to a few
// hundred.
const MaxSize = 4 << 20

// maxDepth bounds the nesting that is followed. Real files have 7 levels.
const maxDepth = 64

// ErrSyntax is wrapped by every error of Parse.
var ErrSyntax = errors.New("not a settings file")

// Parse reads a settings file. As to the client, a file without text is one without settings, and a byte order mark is
// none of it. Errors wrap ErrSyntax and name line and column.
func Parse(b []byte) (*Document, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrSyntax, len(b), MaxSize)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(b) {
		return nil, mistake(b, firstInvalid(b), "not UTF-8; save it as UTF-8")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return &Document{}, nil
	}
	if err := checkJSON(b); err != nil {
		return nil, err
	}
	p := parser{text: b}
	root, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if root.kind != object {
		return nil, mistake(b, 0, "want a JSON object: {…}")
	}
	return &Document{root: root}, nil
}

// checkJSON leaves nothing for the parser to refuse but depth and doubled keys.
func checkJSON(b []byte) error {
	err := json.Unmarshal(b, new(json.RawMessage))
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &syntax):
		return fmt.Errorf("%w: not JSON", ErrSyntax)
	case syntax.Offset >= int64(len(b)) && syntax.Error() == "unexpected end of JSON input":
		return mistake(b, len(b), "it ends too early; close what is open")
	}
	// The decoder's text is not passed on: it quotes a character of the content.
	return mistake(b, int(syntax.Offset)-1, "not JSON; comments and trailing commas are not allowed")
}

// parser walks over text that is JSON.
type parser struct {
	text []byte
	at   int
}

func (p *parser) value(depth int) (value, error) {
	p.blanks()
	switch p.text[p.at] {
	case '{':
		return p.object(depth + 1)
	case '[':
		return p.array(depth + 1)
	}
	return value{kind: scalar, raw: p.token()}, nil
}

func (p *parser) object(depth int) (value, error) {
	v := value{}
	if err := p.enter(depth); err != nil {
		return v, err
	}
	seen := map[string]bool{}
	for p.more('}') {
		start := p.at
		m := member{raw: p.token()}
		_ = json.Unmarshal([]byte(m.raw), &m.key) // it is a string: the text is JSON
		if seen[m.key] {
			return v, mistake(p.text, start, "key given twice; keep one of them")
		}
		seen[m.key] = true
		p.blanks()
		p.at++ // the colon
		var err error
		if m.value, err = p.value(depth); err != nil {
			return v, err
		}
		v.members = append(v.members, m)
	}
	return v, nil
}

func (p *parser) array(depth int) (value, error) {
	v := value{kind: array}
	if err := p.enter(depth); err != nil {
		return v, err
	}
	for p.more(']') {
		item, err := p.value(depth)
		if err != nil {
			return v, err
		}
		v.items = append(v.items, item)
	}
	return v, nil
}

func (p *parser) enter(depth int) error {
	if depth > maxDepth {
		return mistake(p.text, p.at, fmt.Sprintf("nested more than %d levels deep", maxDepth))
	}
	p.at++
	return nil
}

// more skips to the next element; false after the end of the list.
func (p *parser) more(end byte) bool {
	p.blanks()
	if p.text[p.at] == ',' {
		p.at++
		p.blanks()
	}
	if p.text[p.at] == end {
		p.at++
		return false
	}
	return true
}

func (p *parser) blanks() {
	for bytes.IndexByte([]byte(" \t\r\n"), p.text[p.at]) >= 0 {
		p.at++
	}
}

// token takes a string, number or word.
func (p *parser) token() string {
	start := p.at
	if p.text[p.at] == '"' {
		for p.at++; p.text[p.at] != '"'; p.at++ {
			if p.text[p.at] == '\\' {
				p.at++
			}
		}
		p.at++
		return string(p.text[start:p.at])
	}
	for p.at < len(p.text) && bytes.IndexByte([]byte(" \t\r\n,]}"), p.text[p.at]) < 0 {
		p.at++
	}
	return string(p.text[start:p.at])
}

func mistake(b []byte, off int, what string) error {
	off = min(max(off, 0), len(b))
	line := 1 + bytes.Count(b[:off], []byte("\n"))
	column := off - bytes.LastIndexByte(b[:off], '\n')
	return fmt.Errorf("%w: line %d, column %d: %s", ErrSyntax, line, column, what)
}

func firstInvalid(b []byte) int {
	for at := 0; at < len(b); {
		r, n := utf8.DecodeRune(b[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return len(b)
}
