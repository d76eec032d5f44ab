// Package sentinel makes errors that are one of io/fs's as well, without its text: "login required" is fs.ErrPermission
// to the file system, and reads as itself to people.
package sentinel

// New returns an error that shows text and for which errors.Is(err, is) holds.
func New(text string, is error) error { return &sentinel{text, is} }

type sentinel struct {
	text string
	is   error
}

func (s *sentinel) Error() string { return s.text }

func (s *sentinel) Unwrap() error { return s.is }
