package policy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/claudefs/claudefs/internal/endpoint"
)

var accountForm = regexp.MustCompile(`^(\{tree\}|\{project\}|\{container\}|\{default\}|[A-Za-z0-9][A-Za-z0-9._-]{0,62})$`)

// scopeForm is RFC 6749's scope-token.
var scopeForm = regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`)

// invalid is what is wrong at a place of the file: keys and list indexes from the top.
type invalid struct {
	path []any
	err  error
}

// Error implements error.
func (i *invalid) Error() string { return i.err.Error() }

// Unwrap implements errors.Unwrap's interface.
func (i *invalid) Unwrap() error { return i.err }

// at adds where err is; nil stays nil.
func at(err error, path ...any) error {
	var inner *invalid
	switch {
	case err == nil:
		return nil
	case errors.As(err, &inner):
		return &invalid{append(slices.Clone(path), inner.path...), inner.err}
	}
	return &invalid{path, err}
}

func (p *Policy) validate() error {
	if err := validateVersion(p.Version); err != nil {
		return err
	}
	if len(p.Rules) == 0 {
		return at(errors.New("rules: none given; a policy without rules denies everything"), "rules")
	}
	names := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		if err := r.validate(); err != nil {
			return at(err, "rules", i)
		}
		if names[r.Name] {
			return at(fmt.Errorf("rule %q: name given twice", r.Name), "rules", i, "name")
		}
		names[r.Name] = true
	}
	return at(validateTests(p.Tests), "tests")
}

func validateVersion(v int) error {
	if v != 1 {
		return at(fmt.Errorf("version: want 1, found %d; this claudefs knows no other", v), "version")
	}
	return nil
}

// printable keeps what ends in logs and on terminals to one line without control characters.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (r *Rule) validate() error {
	switch {
	case r.Name == "":
		return errors.New("name is missing; it is what the audit log shows")
	case !printable(r.Name):
		return at(errors.New("name: want one line of printable text"), "name")
	case !printable(r.Deny):
		return at(errors.New("deny: want one line of printable text"), "deny")
	case r.Allow == nil && r.Deny == "":
		return errors.New("want allow or deny")
	case r.Allow != nil && r.Deny != "":
		return at(errors.New("has both allow and deny"), "deny")
	}
	if err := r.Match.validate(); err != nil {
		return at(err, "match")
	}
	if r.Allow == nil {
		return nil
	}
	if r.Match.Host != nil && r.Allow.TTL != 0 {
		return at(errors.New("ttl counts from a container's start; a host process has none"), "allow", "ttl")
	}
	if r.Match.Host != nil && r.Allow.Approval == "first-read" {
		return at(errors.New("approval lasts as long as a container runs; a host process would need one for each command"), "allow", "approval")
	}
	return at(r.Allow.validate(), "allow")
}

func (m *Match) validate() error {
	switch {
	case m.Container != nil && m.Host != nil:
		return at(errors.New("container and host exclude each other"), "host")
	case m.Host != nil && len(m.Host.UID) == 0:
		return at(errors.New("uid is missing; name who on the host may read"), "host")
	case m.UID != nil && len(m.UID) == 0:
		return at(errEmpty, "uid")
	}
	if err := m.Tree.validate(); err != nil {
		return at(err, "tree")
	}
	if m.Host != nil {
		return at(m.Host.Exe.validate(), "host", "exe")
	}
	if m.Container == nil {
		return nil
	}
	return at(m.Container.validate(), "container")
}

func (m *ContainerMatch) validate() error {
	for _, f := range m.globs() {
		if err := f.globs.validate(); err != nil {
			return at(err, strings.TrimPrefix(f.key, "container."))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		if k == "" {
			return at(errors.New("a label has a name"), "labels")
		}
		if err := m.Labels[k].validate(); err != nil {
			return at(err, "labels", k)
		}
	}
	return nil
}

func (a *Allow) validate() error {
	for _, w := range []struct {
		key, have string
		want      []string
	}{
		{"level", string(a.Level), []string{"shared", "project", "isolated"}},
		{"credential", string(a.Credential), []string{"", "oauth", "api-key", "none"}},
		{"login", string(a.Login), []string{"", "capture", "deny"}},
		{"refresh_token", string(a.RefreshToken), []string{"", "surrogate", "null"}},
		{"settings", string(a.Settings), []string{"", "overlay", "private", "readonly"}},
		{"state", string(a.State), []string{"", "persistent", "ephemeral"}},
		{"approval", a.Approval, []string{"", "none", "first-read"}},
		{"privileged", a.Privileged, []string{"", "allow", "deny"}},
	} {
		if !slices.Contains(w.want, w.have) {
			return at(fmt.Errorf("%s %q: want %s", w.key, w.have, choices(w.want)), w.key)
		}
	}
	if a.Account != "" && !accountForm.MatchString(a.Account) {
		return at(fmt.Errorf("account %q: want a name, {tree}, {project}, {container} or {default}", a.Account), "account")
	}
	if a.Scopes != nil && len(a.Scopes) == 0 {
		return at(errEmpty, "scopes")
	}
	for i, s := range a.Scopes {
		if !scopeForm.MatchString(s) {
			return at(fmt.Errorf("scope %q: want one scope without spaces", s), "scopes", i)
		}
	}
	if a.ReadsPerMinute < 0 {
		return at(errors.New("reads_per_minute: want a number above 0"), "reads_per_minute")
	}
	return at(a.validateEndpoints(), "endpoints")
}

func (a *Allow) validateEndpoints() error {
	switch {
	case a.Endpoints == nil:
		return nil
	case len(a.Endpoints) == 0:
		return errors.New("empty list; without endpoints the tree may set no URL")
	case a.Settings == SettingsReadonly:
		return errors.New("endpoints are URLs that the tree may set; with settings: readonly it sets nothing")
	}
	for i, text := range a.Endpoints {
		if _, err := endpoint.Parse(text); err != nil {
			return at(fmt.Errorf("endpoint %q: %w", text, err), i)
		}
	}
	return nil
}

// choices lists what is accepted, in quotes where YAML would read something else.
func choices(want []string) string {
	var out []string
	for _, w := range want {
		switch w {
		case "":
		case "null":
			out = append(out, `"null"`)
		default:
			out = append(out, w)
		}
	}
	return strings.Join(out[:len(out)-1], ", ") + " or " + out[len(out)-1]
}
