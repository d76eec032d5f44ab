package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var accountForm = regexp.MustCompile(`^(\{tree\}|\{project\}|\{default\}|[A-Za-z0-9][A-Za-z0-9._-]{0,62})$`)

func (p *Policy) validate() error {
	if p.Version != 1 {
		return fmt.Errorf("version: want 1, found %d; this claudefs knows no other", p.Version)
	}
	if len(p.Rules) == 0 {
		return errors.New("rules: none given; a policy without rules denies everything")
	}
	names := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.Name == "" {
			return fmt.Errorf("rules[%d]: name is missing; it is what the audit log shows", i)
		}
		if !printable(r.Name) || !printable(r.Deny) {
			return fmt.Errorf("rules[%d]: name and deny: want one line of printable text", i)
		}
		if names[r.Name] {
			return fmt.Errorf("rule %q: name given twice", r.Name)
		}
		names[r.Name] = true
		if err := r.validate(); err != nil {
			return fmt.Errorf("rule %q: %w", r.Name, err)
		}
	}
	return nil
}

// printable keeps what ends in logs and on terminals to one line without control characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (r *Rule) validate() error {
	switch {
	case r.Allow == nil && r.Deny == "":
		return errors.New("want allow or deny")
	case r.Allow != nil && r.Deny != "":
		return errors.New("has both allow and deny")
	case r.Match.Container != nil && r.Match.Host != nil:
		return errors.New("match: container and host exclude each other")
	case r.Match.Host != nil && len(r.Match.Host.UID) == 0:
		return errors.New("match: host: uid is missing; name who on the host may read")
	}
	if err := r.Match.globs(); err != nil {
		return fmt.Errorf("match: %w", err)
	}
	if r.Allow == nil {
		return nil
	}
	return r.Allow.validate()
}

func (m *Match) globs() error {
	if err := m.Tree.validate(); err != nil {
		return fmt.Errorf("tree: %w", err)
	}
	c := m.Container
	if c == nil {
		return nil
	}
	all := []struct {
		key string
		g   Globs
	}{{"name", c.Name}, {"image", c.Image}, {"compose_project", c.ComposeProject}}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		all = append(all, struct {
			key string
			g   Globs
		}{"labels." + k, c.Labels[k]})
	}
	for _, f := range all {
		if err := f.g.validate(); err != nil {
			return fmt.Errorf("container.%s: %w", f.key, err)
		}
	}
	return nil
}

func (a *Allow) validate() error {
	switch a.Level {
	case LevelShared, LevelProject, LevelIsolated:
	default:
		return fmt.Errorf("allow: level %q: want shared, project or isolated", a.Level)
	}
	if a.Account != "" && !accountForm.MatchString(a.Account) {
		return fmt.Errorf("allow: account %q: want a name, {tree}, {project} or {default}", a.Account)
	}
	switch a.Login {
	case "", LoginCapture, LoginDeny:
	default:
		return fmt.Errorf("allow: login %q: want capture or deny", a.Login)
	}
	switch a.RefreshToken {
	case "", RefreshSurrogate, RefreshNull:
	default:
		return fmt.Errorf("allow: refresh_token %q: want surrogate or \"null\"", a.RefreshToken)
	}
	switch a.Privileged {
	case "", "allow", "deny":
	default:
		return fmt.Errorf("allow: privileged %q: want allow or deny", a.Privileged)
	}
	return nil
}
