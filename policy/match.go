package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claudefs/claudefs/internal/identity"
)

// errNoFacts: a rule asks for a container's facts and nobody has any.
var errNoFacts = errors.New("no container runtime is configured")

// condition names one condition of a match; key "" is none. label is the one that container.labels is about.
type condition struct{ key, label string }

// String is how the file spells it.
func (c condition) String() string {
	if c.label != "" {
		return c.key + "." + c.label
	}
	return c.key
}

// missed returns the first condition that does not hold, none when all do. An error: whether they do is not known.
func (m *Match) missed(q *Request) (condition, error) {
	switch {
	case !m.names(q.Tree):
		return condition{key: "tree"}, nil
	case len(m.UID) > 0 && !slices.Contains(m.UID, q.Subject.Caller.UID):
		return condition{key: "uid"}, nil
	case m.Host != nil:
		return m.Host.missed(q.Subject), nil
	case q.Subject.Host:
		return condition{key: "container"}, nil
	case m.Container.empty():
		return condition{}, nil
	case q.Facts != nil:
		return m.Container.missed(q.Facts), nil
	case q.FactsErr != nil:
		return condition{}, q.FactsErr
	}
	return condition{}, errNoFacts
}

func (m *HostMatch) missed(s *identity.Subject) condition {
	switch {
	case !s.Host:
		return condition{key: "host"}
	case len(m.UID) > 0 && !slices.Contains(m.UID, s.Caller.UID):
		return condition{key: "host.uid"}
	case len(m.Exe) > 0 && (program(s) == "" || !m.Exe.matches(program(s))):
		return condition{key: "host.exe"}
	}
	return condition{}
}

// program is what a host process runs, "" when that is not known.
func program(s *identity.Subject) string {
	if s.Program == nil {
		return ""
	}
	return s.Program()
}

// empty reports whether any container matches, known to a runtime or not.
func (m *ContainerMatch) empty() bool {
	if m == nil {
		return true
	}
	for _, g := range m.globs() {
		if len(*g.globs) > 0 {
			return false
		}
	}
	return len(m.Labels) == 0 && m.Privileged == nil
}

func (m *ContainerMatch) missed(f *identity.Facts) condition {
	for _, g := range m.globs() {
		if len(*g.globs) > 0 && !slices.ContainsFunc(g.have(f), g.globs.matches) {
			return condition{key: g.key}
		}
	}
	missed := condition{}
	for k, g := range m.Labels {
		if v, ok := f.Labels[k]; (!ok || !g.matches(v)) && (missed.label == "" || k < missed.label) {
			missed = condition{"container.labels", k}
		}
	}
	if missed.key != "" {
		return missed
	}
	if m.Privileged != nil && *m.Privileged != (len(f.Powers) > 0) {
		return condition{key: "container.privileged"}
	}
	return condition{}
}

// fact is a condition by globs, and what of the container has to match one of them.
type fact struct {
	key   string
	globs *Globs
	have  func(*identity.Facts) []string
}

// globs lists the conditions by globs, in the order in which they are tried.
func (m *ContainerMatch) globs() [9]fact {
	return [...]fact{
		{"container.name", &m.Name, func(f *identity.Facts) []string { return []string{f.Name} }},
		{"container.image", &m.Image, spellings},
		{"container.digest", &m.Digest, digests},
		{"container.compose_project", &m.ComposeProject, composeProject},
		{"container.compose_service", &m.ComposeService, composeService},
		{"container.runtime", &m.Runtime, func(f *identity.Facts) []string { return []string{f.Runtime} }},
		{"container.pod", &m.Pod, pod},
		{"container.namespace", &m.Namespace, namespace},
		{"container.user", &m.User, users},
	}
}

// Facts that are labels.
var (
	composeProject = label(identity.LabelComposeProject)
	composeService = label(identity.LabelComposeService)
	pod            = label(identity.LabelPod)
	namespace      = label(identity.LabelNamespace)
)

func label(name string) func(*identity.Facts) []string {
	return func(f *identity.Facts) []string {
		if v, ok := f.Labels[name]; ok {
			return []string{v}
		}
		return nil
	}
}

// digests are what the image's content is known by: its id, and its digests in registries.
func digests(f *identity.Facts) []string { return append([]string{f.ImageID}, f.Digests...) }

// users are the ways to write whom the first process runs as: with the group and without; root has two names and is
// who it is when nobody said.
func users(f *identity.Facts) []string {
	user, _, _ := strings.Cut(f.User, ":")
	if user == "" || user == "0" || user == "root" {
		return []string{"root", "0", f.User}
	}
	return []string{f.User, user}
}

// why says for people why a condition does not hold.
func (m *Match) why(c condition, q *Request) string {
	have, want := m.sides(c, q)
	switch c.key {
	case "host":
		return "the caller is in a container"
	case "container":
		return "the caller is a host process"
	case "container.privileged":
		if len(q.Facts.Powers) == 0 {
			return "container.privileged: it has no power to become another container"
		}
		return "container.privileged: it has " + strings.Join(q.Facts.Powers, ", ")
	}
	if len(have) == 0 || have[0] == "" {
		return fmt.Sprintf("%s: there is none, want %s", c, strings.Join(want, " or "))
	}
	return fmt.Sprintf("%s: %q is not %s", c, have[0], strings.Join(want, " or "))
}

// sides returns what a condition found and what it wants.
func (m *Match) sides(c condition, q *Request) (have, want []string) {
	switch c.key {
	case "tree":
		return []string{q.Tree}, m.Tree
	case "uid":
		return []string{fmt.Sprint(q.Subject.Caller.UID)}, texts(m.UID)
	case "host.uid":
		return []string{fmt.Sprint(q.Subject.Caller.UID)}, texts(m.Host.UID)
	case "host.exe":
		return []string{program(q.Subject)}, m.Host.Exe
	case "container.labels":
		return label(c.label)(q.Facts), m.Container.Labels[c.label]
	}
	if m.Container == nil {
		return nil, nil
	}
	for _, g := range m.Container.globs() {
		if g.key == c.key {
			return g.have(q.Facts), *g.globs
		}
	}
	return nil, nil
}

func texts(numbers []uint32) (out []string) {
	for _, n := range numbers {
		out = append(out, fmt.Sprint(n))
	}
	return out
}
