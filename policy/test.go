package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/claudefs/claudefs/internal/identity"
)

// Test is a question to a policy and what it has to answer. Files can have tests of their own: one whose tests fail is
// not put in force.
type Test struct {
	Name string `yaml:"name"`
	Tree string `yaml:"tree"`
	// Container or Host is who asks; Container may be empty.
	Container *TestContainer `yaml:"container"`
	Host      *TestHost      `yaml:"host"`
	UID       uint32         `yaml:"uid"` // of a caller in a container
	// Runtime is "down" or "none" when no runtime answers.
	Runtime string `yaml:"runtime"`
	// At is when, in the form of RFC 3339; absent: now.
	At   string `yaml:"at"`
	Want Want   `yaml:"want"`
}

// TestContainer is a container that asks.
type TestContainer struct {
	Name           string            `yaml:"name"`
	Image          string            `yaml:"image"`
	Digest         string            `yaml:"digest"`
	Labels         map[string]string `yaml:"labels"`
	ComposeProject string            `yaml:"compose_project"`
	ComposeService string            `yaml:"compose_service"`
	Runtime        string            `yaml:"runtime"`
	Pod            string            `yaml:"pod"`
	Namespace      string            `yaml:"namespace"`
	User           string            `yaml:"user"`
	Privileged     bool              `yaml:"privileged"`
	Age            Duration          `yaml:"age"` // since its start
}

// TestHost is a host process that asks.
type TestHost struct {
	UID uint32 `yaml:"uid"`
	Exe string `yaml:"exe"`
}

// Want is what has to come of a question. What is absent may be anything.
type Want struct {
	Allowed *bool  `yaml:"allowed"`
	Rule    string `yaml:"rule"`
	Account string `yaml:"account"`
	Level   Level  `yaml:"level"`
	Reason  string `yaml:"reason"` // a part of it
}

// Result is what came of a test.
type Result struct {
	Name    string `json:"name"`
	Ok      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"` // what differs
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule,omitempty"`
	Reason  string `json:"reason"`
}

// tests is a file of tests beside a policy.
type tests struct {
	Version int    `yaml:"version"`
	Tests   []Test `yaml:"tests"`
}

// ParseTests checks a file that holds tests alone. name is for messages.
func ParseTests(name string, b []byte) ([]Test, error) {
	var f tests
	if err := read(name, b, &f); err != nil {
		return nil, err
	}
	return f.Tests, nil
}

func (f *tests) validate() error {
	if err := validateVersion(f.Version); err != nil {
		return err
	}
	return at(validateTests(f.Tests), "tests")
}

func validateTests(list []Test) error {
	names := map[string]bool{}
	for i := range list {
		t := &list[i]
		if err := t.validate(); err != nil {
			return at(err, i)
		}
		if names[t.Name] {
			return at(fmt.Errorf("test %q: name given twice", t.Name), i, "name")
		}
		names[t.Name] = true
	}
	return nil
}

func (t *Test) validate() error {
	switch {
	case t.Name == "" || !printable(t.Name):
		return errors.New("name: want one line of printable text")
	case !ValidTree(t.Tree):
		return at(fmt.Errorf("tree %q: want a tree's name", t.Tree), "tree")
	case (t.Container == nil) == (t.Host == nil):
		return errors.New("want container or host: who asks")
	case t.Host != nil && t.UID != 0:
		return at(errors.New("uid is for containers; a host process has host.uid"), "uid")
	case t.Runtime != "" && t.Runtime != "down" && t.Runtime != "none":
		return at(fmt.Errorf("runtime %q: want down or none, or nothing for one that answers", t.Runtime), "runtime")
	case t.Want == Want{}:
		return errors.New("want is missing; it is what has to come of it")
	}
	if _, err := t.when(); err != nil {
		return at(err, "at")
	}
	return nil
}

func (t *Test) when() (time.Time, error) {
	if t.At == "" {
		return time.Now(), nil
	}
	when, err := time.Parse(time.RFC3339, t.At)
	if err != nil {
		return when, fmt.Errorf("at %q: want a time such as 2026-01-31T12:00:00Z", t.At)
	}
	return when, nil
}

// Run asks the policy.
func (t *Test) Run(p *Policy) Result {
	d := p.Decide(t.request())
	problem := t.Want.missed(d)
	return Result{Name: t.Name, Ok: problem == "", Problem: problem, Allowed: d.Allowed, Rule: d.Rule, Reason: d.Reason}
}

var errTestDown = errors.New("the runtime is down")

func (t *Test) request() Request {
	q := Request{Tree: t.Tree}
	q.Now, _ = t.when()
	if t.Host != nil {
		q.Subject = &identity.Subject{Host: true, Caller: identity.Caller{UID: t.Host.UID}, Exe: t.Host.Exe, Program: func() string { return t.Host.Exe }}
		return q
	}
	q.Subject = &identity.Subject{Container: strings.Repeat("0", 64), Caller: identity.Caller{UID: t.UID}}
	started := q.Now.Add(-time.Duration(t.Container.Age))
	q.Started = func() (time.Time, error) { return started, nil }
	switch t.Runtime {
	case "down":
		q.FactsErr = errTestDown
	case "":
		q.Facts = t.Container.facts()
	}
	return q
}

func (c *TestContainer) facts() *identity.Facts {
	f := &identity.Facts{Name: c.Name, Image: c.Image, ImageID: c.Digest, Runtime: c.Runtime, User: c.User, Labels: map[string]string{}}
	for k, v := range c.Labels {
		f.Labels[k] = v
	}
	for k, v := range map[string]string{
		identity.LabelComposeProject: c.ComposeProject, identity.LabelComposeService: c.ComposeService,
		identity.LabelPod: c.Pod, identity.LabelNamespace: c.Namespace,
	} {
		if v != "" {
			f.Labels[k] = v
		}
	}
	if c.Privileged {
		f.Powers = []string{"privileged"}
	}
	return f
}

// missed says what a decision should have been, "" when it is as wanted.
func (w *Want) missed(d Decision) string {
	verb := map[bool]string{true: "allowed", false: "denied"}
	switch {
	case w.Allowed != nil && *w.Allowed != d.Allowed:
		return fmt.Sprintf("%s, want %s", verb[d.Allowed], verb[*w.Allowed])
	case w.Rule != "" && w.Rule != d.Rule:
		return fmt.Sprintf("rule %q decides, want %q", d.Rule, w.Rule)
	case w.Account != "" && w.Account != d.Account:
		return fmt.Sprintf("account %q, want %q", d.Account, w.Account)
	case w.Level != "" && w.Level != d.Level:
		return fmt.Sprintf("level %q, want %q", d.Level, w.Level)
	case w.Reason != "" && !strings.Contains(d.Reason, w.Reason):
		return fmt.Sprintf("reason %q, want %q in it", d.Reason, w.Reason)
	}
	return ""
}
