package policy

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

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
	// Now is when it is asked; zero: the time of the call.
	Now time.Time
	// Started says when the container started; nil, or an error: not known. It is asked only by a rule with a ttl.
	Started func() (time.Time, error)
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
	Credential   Credential
	Scopes       []string // all that the account may have been granted; nil: any
	Login        Login
	RefreshToken RefreshToken
	// ReadsPerMinute bounds the container's reads of the tree; 0: no bound.
	ReadsPerMinute int
	// Approval: an operator has to approve the reader.
	Approval bool
}

// Decide finds the first rule that matches and applies it. What no rule matches is denied.
func (p *Policy) Decide(q Request) Decision {
	for _, r := range p.about(q.Tree) {
		if d, decides := r.decide(&q, nil); decides {
			return d
		}
	}
	return unmatched(&q)
}

// about lists the rules whose match names the tree. There are few trees, and of many rules most are about others.
func (p *Policy) about(tree string) []*Rule {
	if known, ok := p.byTree.Load(tree); ok {
		return known.([]*Rule)
	}
	var rules []*Rule
	for i := range p.Rules {
		if p.Rules[i].Match.names(tree) {
			rules = append(rules, &p.Rules[i])
		}
	}
	if ValidTree(tree) {
		p.byTree.Store(tree, rules)
	}
	return rules
}

// Step is what one rule said to a request.
type Step struct {
	Rule string `json:"rule"`
	// Why is why it did not match, or what it decided.
	Why     string `json:"why"`
	Decides bool   `json:"decides"`
}

// Explain is Decide with what each rule said, up to the one that decided.
func (p *Policy) Explain(q Request) (Decision, []Step) {
	var steps []Step
	for i := range p.Rules {
		r := &p.Rules[i]
		var why string
		d, decides := r.decide(&q, &why)
		if decides {
			return d, append(steps, Step{r.Name, d.Reason, true})
		}
		steps = append(steps, Step{Rule: r.Name, Why: why})
	}
	return unmatched(&q), steps
}

func unmatched(q *Request) Decision {
	if q.Subject.Host {
		return Decision{Reason: "no rule names this host process"}
	}
	return Decision{Reason: "no rule matches"}
}

// decide applies one rule; decides is false when it does not match. With why it says there why not.
func (r *Rule) decide(q *Request, why *string) (d Decision, decides bool) {
	missed, err := r.Match.missed(q)
	switch {
	case errors.Is(err, errNoFacts) && r.Allow != nil:
		// Without a runtime no container is known to be what an allow asks for. Fail closed: nor is any known not to
		// be what a deny forbids, so that one decides.
		if why != nil {
			*why = err.Error()
		}
		return Decision{}, false
	case err != nil && !errors.Is(err, errNoFacts):
		// Fail closed: whether this rule decides cannot be known, so no later one may.
		return Decision{Rule: r.Name, Reason: fmt.Sprintf("rule %q needs facts from the container runtime: %v", r.Name, err)}, true
	case missed.key != "":
		if why != nil {
			*why = r.Match.why(missed, q)
		}
		return Decision{}, false
	case r.Allow == nil:
		return Decision{Rule: r.Name, Reason: r.Deny}, true
	}
	return r.allow(q), true
}

func (r *Rule) allow(q *Request) Decision {
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
	d.Credential = cmp.Or(r.Allow.Credential, CredentialOAuth)
	d.Login = cmp.Or(r.Allow.Login, LoginCapture)
	d.RefreshToken = cmp.Or(r.Allow.RefreshToken, RefreshSurrogate)
	d.Scopes, d.ReadsPerMinute = r.Allow.Scopes, r.Allow.ReadsPerMinute
	d.Approval = r.Allow.Approval == "first-read"
	return d
}

// refuse applies the level's own conditions. "" means none is hurt.
func (a *Allow) refuse(q *Request) string {
	if a.Level == LevelProject && !q.Subject.Host {
		switch {
		case q.Facts == nil:
			return "project level needs the container's project: " + missing(q)
		case q.Facts.Project() != q.Tree:
			return fmt.Sprintf("container's project is %q, not the tree's name", q.Facts.Project())
		}
	}
	if reason := a.untimely(q); reason != "" {
		return reason
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

// untimely applies ttl and hours.
func (a *Allow) untimely(q *Request) string {
	now := q.Now
	if now.IsZero() {
		now = time.Now()
	}
	if !a.Hours.include(now) {
		return "outside of the rule's hours: " + a.Hours.String()
	}
	if a.TTL == 0 {
		return ""
	}
	if q.Started == nil {
		// Fail closed: a container of unknown age may be too old.
		return "rule has a ttl, and when the container started is not known"
	}
	started, err := q.Started()
	if err != nil {
		return fmt.Sprintf("rule has a ttl, and when the container started is not known: %v", err) // Fail closed
	}
	if age := now.Sub(started); age >= time.Duration(a.TTL) {
		return fmt.Sprintf("container's time is over: it started %v ago, the rule gives %v", age.Round(time.Second), time.Duration(a.TTL))
	}
	return ""
}

func missing(q *Request) string {
	if q.FactsErr != nil {
		return q.FactsErr.Error()
	}
	return errNoFacts.Error()
}

func (a *Allow) account(q *Request) (account, reason string) {
	switch a.Account {
	case "{tree}":
		return q.Tree, ""
	case "{project}":
		if q.Facts == nil || !ValidTree(q.Facts.Project()) {
			return "", "rule takes the account from the container's project, and it has none"
		}
		return q.Facts.Project(), ""
	case "{container}":
		if q.Facts == nil || !ValidTree(q.Facts.Name) {
			return "", "rule takes the account from the container's name, and it has none that could name one"
		}
		return q.Facts.Name, ""
	case "{default}":
		return "", ""
	}
	return a.Account, ""
}
