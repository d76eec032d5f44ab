package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claudefs/claudefs/internal/identity"
)

// Request is one question: may this subject have that tree?
type Request struct {
	Tree    string
	Subject *identity.Subject
	// Facts are what a runtime says of the subject's container; nil without a runtime, or when it does not know it.
	Facts *identity.Facts
	// FactsErr is why there are no facts although a runtime is configured.
	FactsErr error
}

// Decision is the answer.
type Decision struct {
	Allowed bool
	Rule    string // the rule that decided, "" when none matched
	Reason  string // one sentence, for the audit log; also for an allow
	Level   Level
	// Account is the expanded account, "" when the rule leaves it to the level (see Allow.Account).
	Account string
	// OwnAccount: Account is named after the tree by the rule's own "{tree}", so it is the tree's and nobody else's.
	OwnAccount   bool
	Login        Login
	RefreshToken RefreshToken
}

// Decide finds the first rule that matches and applies it. What no rule matches is denied.
func (p *Policy) Decide(q Request) Decision {
	for i := range p.Rules {
		r := &p.Rules[i]
		ok, err := r.Match.matches(q)
		if errors.Is(err, errNoFacts) {
			// Without a runtime no container is known to be what an allow asks for. Fail closed: nor is any known not to
			// be what a deny forbids.
			ok, err = r.Allow == nil, nil
		}
		if err != nil {
			// Fail closed: whether this rule decides cannot be known, so no later one may.
			return Decision{Rule: r.Name, Reason: fmt.Sprintf("rule %q needs facts from the container runtime: %v", r.Name, err)}
		}
		if !ok {
			continue
		}
		if r.Allow == nil {
			return Decision{Rule: r.Name, Reason: r.Deny}
		}
		return r.allow(q)
	}
	if q.Subject.Host {
		return Decision{Reason: "no rule names this host process"}
	}
	return Decision{Reason: "no rule matches"}
}

func (r *Rule) allow(q Request) Decision {
	d := Decision{Rule: r.Name, Level: r.Allow.Level}
	if reason := r.Allow.refuse(q); reason != "" {
		d.Reason = reason
		return d
	}
	account, reason := r.Allow.account(q)
	if reason != "" {
		d.Reason = reason
		return d
	}
	d.Allowed, d.Account, d.Reason = true, account, "rule "+r.Name
	d.OwnAccount = r.Allow.Account == "{tree}"
	d.Login, d.RefreshToken = LoginCapture, RefreshSurrogate
	if r.Allow.Login != "" {
		d.Login = r.Allow.Login
	}
	if r.Allow.RefreshToken != "" {
		d.RefreshToken = r.Allow.RefreshToken
	}
	return d
}

// refuse applies the level's own conditions. "" means none is hurt.
func (a *Allow) refuse(q Request) string {
	if a.Level == LevelProject && !q.Subject.Host {
		switch {
		case q.Facts == nil:
			return "project level needs the container's project: " + missing(q)
		case q.Facts.Project() != q.Tree:
			return fmt.Sprintf("container's project is %q, not the tree's name", q.Facts.Project())
		}
	}
	if a.Privileged == "allow" || a.Privileged == "" && a.Level != LevelIsolated {
		return ""
	}
	if q.Facts != nil && len(q.Facts.Powers) > 0 {
		return "container could become another one: " + strings.Join(q.Facts.Powers, ", ")
	}
	if q.Facts == nil && q.FactsErr != nil {
		// Fail closed: a runtime that is down does not make a container harmless.
		return "rule needs to know the container's powers: " + missing(q)
	}
	return ""
}

func missing(q Request) string {
	if q.FactsErr != nil {
		return q.FactsErr.Error()
	}
	return errNoFacts.Error()
}

func (a *Allow) account(q Request) (account, reason string) {
	switch a.Account {
	case "{tree}":
		return q.Tree, ""
	case "{project}":
		if q.Facts == nil || !ValidTree(q.Facts.Project()) {
			return "", "rule takes the account from the container's project, and it has none"
		}
		return q.Facts.Project(), ""
	case "{default}":
		return "", ""
	}
	return a.Account, ""
}

// errNoFacts: a rule asks for a container's facts and nobody has any.
var errNoFacts = errors.New("no container runtime is configured")

func (m *Match) matches(q Request) (bool, error) {
	if !m.names(q.Tree) {
		return false, nil
	}
	if m.Host != nil {
		return q.Subject.Host && slices.Contains(m.Host.UID, q.Subject.Caller.UID), nil
	}
	if q.Subject.Host {
		return false, nil
	}
	if m.anyContainer() {
		return true, nil
	}
	if q.Facts == nil {
		if q.FactsErr != nil {
			return false, q.FactsErr
		}
		return false, errNoFacts
	}
	return m.Container.matches(q.Facts), nil
}

func (m *ContainerMatch) matches(f *identity.Facts) bool {
	if len(m.Name) > 0 && !m.Name.matches(f.Name) {
		return false
	}
	if len(m.ComposeProject) > 0 && !m.ComposeProject.matches(f.Labels[identity.LabelComposeProject]) {
		return false
	}
	if len(m.Image) > 0 && !slices.ContainsFunc(spellings(f), m.Image.matches) {
		return false
	}
	for k, g := range m.Labels {
		v, ok := f.Labels[k]
		if !ok || !g.matches(v) {
			return false
		}
	}
	return true
}
