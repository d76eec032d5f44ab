package credfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxDepth bounds the nesting that is followed.
const maxDepth = 64

// checkObject reports whether b is one JSON object without doubled keys at any depth. encoding/json alone would let
// the last of two doubled keys win.
func checkObject(b []byte) error {
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) {
		return fmt.Errorf("%w: line 1, column 1: byte order mark", ErrSyntax)
	}
	if i := bytes.IndexFunc(b, func(r rune) bool { return r == utf8.RuneError }); i >= 0 && !utf8.Valid(b) {
		// encoding/json would put U+FFFD for each bad byte, and change a token.
		return fmt.Errorf("%w: %s: not UTF-8", ErrSyntax, place(b, int64(i)))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	tok, err := d.Token()
	if err != nil {
		return positioned(b, err)
	}
	if tok != json.Delim('{') {
		return fmt.Errorf("%w: want a JSON object", ErrSyntax)
	}
	if err := checkMembers(b, d, 1); err != nil {
		return err
	}
	if rest := bytes.TrimLeft(b[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("%w: %s: text after the object", ErrSyntax, place(b, int64(len(b)-len(rest))))
	}
	return nil
}

func checkMembers(b []byte, d *json.Decoder, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: %s: nested too deeply", ErrSyntax, place(b, d.InputOffset()))
	}
	seen := map[string]bool{}
	for d.More() {
		tok, err := d.Token()
		if err != nil {
			return positioned(b, err)
		}
		key, ok := tok.(string)
		if !ok {
			return fmt.Errorf("%w: %s: want a key", ErrSyntax, place(b, d.InputOffset()))
		}
		if seen[key] {
			return fmt.Errorf("%w: %s: key given twice", ErrSyntax, place(b, d.InputOffset()))
		}
		seen[key] = true
		if err := checkValue(b, d, depth); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return positioned(b, err)
}

func checkValue(b []byte, d *json.Decoder, depth int) error {
	tok, err := d.Token()
	if err != nil {
		return positioned(b, err)
	}
	switch tok {
	case json.Delim('{'):
		return checkMembers(b, d, depth+1)
	case json.Delim('['):
		if depth >= maxDepth {
			return fmt.Errorf("%w: %s: nested too deeply", ErrSyntax, place(b, d.InputOffset()))
		}
		for d.More() {
			if err := checkValue(b, d, depth+1); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return positioned(b, err)
	}
	return nil
}

// positioned turns a decoder's error into one that names the place and quotes nothing.
func positioned(b []byte, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s: it ends too early", ErrSyntax, place(b, int64(len(b))))
	}
	// A Decoder that is read by tokens counts its offset wrongly; a scan of the whole counts it rightly, to the byte
	// after the mistake.
	var syn *json.SyntaxError
	if errors.As(json.Unmarshal(b, new(json.RawMessage)), &syn) {
		return fmt.Errorf("%w: %s: not JSON", ErrSyntax, place(b, syn.Offset-1))
	}
	return fmt.Errorf("%w: not JSON", ErrSyntax)
}

func place(b []byte, off int64) string {
	off = min(max(off, 0), int64(len(b)))
	line := 1 + bytes.Count(b[:off], []byte("\n"))
	col := off - int64(bytes.LastIndexByte(b[:off], '\n'))
	return fmt.Sprintf("line %d, column %d", line, col)
}
