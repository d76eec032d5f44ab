package policy

import (
	"errors"
	"fmt"
	"os"

	"github.com/claudefs/claudefs/internal/strictyaml"
)

// Load reads and checks a policy file, or the embedded policy of that name (shared, project, isolated).
func Load(nameOrFile string) (*Policy, error) {
	if b, ok := Builtin(nameOrFile); ok {
		return Parse(nameOrFile, b)
	}
	b, err := os.ReadFile(nameOrFile)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return Parse(nameOrFile, b)
}

// Parse checks a policy. name is for messages, which carry line, column and the offending line.
func Parse(name string, b []byte) (*Policy, error) {
	var p Policy
	if err := strictyaml.Decode(name, b, &p, true); err != nil {
		return nil, err
	}
	var bad *invalid
	if err := p.validate(); errors.As(err, &bad) {
		return nil, strictyaml.Refuse(name, b, bad.path, bad.err)
	}
	return &p, nil
}
