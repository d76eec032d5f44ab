package policy

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/goccy/go-yaml"
)

// Globs is one glob or a list of them; any of them may match. "*" stops at "/"; a trailing "/**" matches any deeper
// path, and "**" alone anything.
type Globs []string

// UnmarshalYAML accepts a string or a list of strings.
func (g *Globs) UnmarshalYAML(unmarshal func(any) error) error {
	var one string
	if err := unmarshal(&one); err == nil {
		*g = Globs{one}
		return nil
	}
	var many []string
	if err := unmarshal(&many); err != nil {
		return err
	}
	*g = many
	return nil
}

var _ yaml.InterfaceUnmarshaler = (*Globs)(nil)

var errEmpty = errors.New("empty list; a condition that names nothing would hold for everything")

func (g Globs) validate() error {
	if g != nil && len(g) == 0 {
		return errEmpty
	}
	for _, p := range g {
		if p == "" {
			return errors.New("empty glob")
		}
		if rest := strings.TrimSuffix(p, "/**"); p != "**" && strings.Contains(rest, "**") {
			// path.Match would take it for one "*", and a rule that denies would deny less than it says.
			return fmt.Errorf("glob %q: ** stands at the end after a /, or alone", p)
		}
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("glob %q: %w", p, err)
		}
	}
	return nil
}

// matches reports whether any glob matches s.
func (g Globs) matches(s string) bool {
	for _, p := range g {
		if matchGlob(p, s) {
			return true
		}
	}
	return false
}

// matchGlob is path.Match, a trailing "/**" that matches any deeper path, and "**" that matches anything.
func matchGlob(pattern, s string) bool {
	if pattern == "**" {
		return true
	}
	if prefix, ok := strings.CutSuffix(pattern, "/**"); ok {
		n := strings.Count(prefix, "/") + 1
		parts := strings.SplitN(s, "/", n+1)
		if len(parts) <= n {
			return false
		}
		pattern, s = prefix, strings.Join(parts[:n], "/")
	}
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}
