package policy

import (
	"errors"
	"fmt"
	"slices"

	"github.com/claudefs/claudefs/internal/guarded"
	"github.com/claudefs/claudefs/internal/strictyaml"
)

// Load reads and checks a policy file and has it answer its own tests, or loads the embedded policy of that name (shared, project, isolated).
func Load(nameOrFile string) (*Policy, error) {
	b, err := Text(nameOrFile)
	if err != nil {
		return nil, err
	}
	p, err := Parse(nameOrFile, b)
	if err != nil {
		return nil, err
	}
	for i := range p.Tests {
		if r := p.Tests[i].Run(p); !r.Ok {
			// Fail closed: the file does not do what its author says that it does.
			return nil, mistake{strictyaml.Refuse(nameOrFile, b, []any{"tests", i}, fmt.Errorf("test %q fails: %s (%s)", r.Name, r.Problem, r.Reason))}
		}
	}
	return p, nil
}

// maxText is more than a policy may have, in bytes.
const maxText = 1 << 20

// Text returns an embedded policy or the text of a file, which is guarded.ErrExposed when others may change it.
func Text(nameOrFile string) ([]byte, error) {
	if b, ok := Builtin(nameOrFile); ok {
		return b, nil
	}
	b, err := guarded.ReadFile(nameOrFile, maxText)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return b, nil
}

// Parse checks a policy. name is for messages, which carry line, column and the offending line.
func Parse(name string, b []byte) (*Policy, error) {
	var p Policy
	if err := read(name, b, &p); err != nil {
		return nil, err
	}
	p.text = slices.Clone(b)
	return &p, nil
}

// read decodes and validates. Errors are ErrSyntax and show the place.
func read(name string, b []byte, out interface{ validate() error }) error {
	if err := strictyaml.Decode(name, b, out, true); err != nil {
		return mistake{err}
	}
	var bad *invalid
	if err := out.validate(); errors.As(err, &bad) {
		return mistake{strictyaml.Refuse(name, b, bad.path, bad.err)}
	}
	return nil
}
