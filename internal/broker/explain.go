package broker

import (
	"context"
	"errors"
	"time"

	"github.com/claudefs/claudefs/internal/endpoint"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// Explanation is what would come of a read, and why. Nothing is changed by asking, and nothing is recorded.
type Explanation struct {
	SchemaVersion int    `json:"schemaVersion"`
	Tree          string `json:"tree"`
	Caller        Asked  `json:"caller"`
	// Rules is what the rules said, up to the one that decided; none when the policy was not asked.
	Rules []policy.Step `json:"rules"`
	// Allowed is whether the read would succeed; Reason why not, or by which rule.
	Allowed bool   `json:"allowed"`
	Rule    string `json:"rule,omitempty"`
	Reason  string `json:"reason"`
	// What the reader would get. Empty when nothing.
	Level      policy.Level      `json:"level,omitempty"`
	Account    string            `json:"account,omitempty"`
	Credential policy.Credential `json:"credential,omitempty"`
	Login      policy.Login      `json:"login,omitempty"`
	ExpiresAt  time.Time         `json:"expiresAt,omitzero"`
	// Settings is what the tree's settings.json is made of, Endpoints the base URLs it may hold: for all who use the tree.
	Settings  policy.Settings `json:"settings,omitempty"`
	Endpoints []string        `json:"endpoints,omitempty"`
	// Notes are what was not looked at.
	Notes []string `json:"notes,omitempty"`
}

// Asked is whom an explanation is about.
type Asked struct {
	PID       uint32            `json:"pid,omitempty"`
	UID       uint32            `json:"uid"`
	Host      bool              `json:"host"`
	Container string            `json:"container,omitempty"` // id
	Name      string            `json:"name,omitempty"`
	Image     string            `json:"image,omitempty"`
	Runtime   string            `json:"runtime,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Powers    []string          `json:"powers,omitempty"`
	Exe       string            `json:"exe,omitempty"`
}

// Describe fills in what is known of a caller; both may be nil.
func (a *Asked) Describe(s *identity.Subject, f *identity.Facts) {
	if s != nil {
		a.PID, a.UID, a.Host, a.Container, a.Runtime, a.Exe = s.Caller.TID, s.Caller.UID, s.Host, s.Container, s.Runtime, s.Exe
	}
	if f != nil {
		a.Name, a.Image, a.Labels, a.Powers = f.Name, f.Image, f.Labels, f.Powers
		if f.Runtime != "" {
			a.Runtime = f.Runtime
		}
	}
}

// Judge asks the policy and takes its decision over.
func (e *Explanation) Judge(p *policy.Policy, q policy.Request) policy.Decision {
	d, steps := p.Explain(q)
	e.Rules, e.Allowed, e.Rule, e.Reason = steps, d.Allowed, d.Rule, d.Reason
	if d.Allowed {
		e.Level, e.Account, e.Credential, e.Login = d.Level, d.Account, d.Credential, d.Login
		var allowed []endpoint.Endpoint
		e.Settings, allowed = p.Settings(q.Tree)
		for _, a := range allowed {
			e.Endpoints = append(e.Endpoints, a.String())
		}
	}
	return d
}

// Explain says what would come of a read of the tree by a process.
func (b *Broker) Explain(ctx context.Context, c identity.Caller, name string) *Explanation {
	e := &Explanation{SchemaVersion: 1, Tree: name, Rules: []policy.Step{}}
	v := &verdict{caller: c}
	q, reason := b.identify(ctx, v, name)
	e.Caller.Describe(v.subject, v.facts)
	if reason != "" {
		e.Reason = reason
		return e
	}
	v.decision = e.Judge(b.policy.Load(), q)
	if e.Allowed {
		e.refuse(b.wouldRefuse(v, name, e))
	}
	return e
}

func (e *Explanation) refuse(reason string) {
	if reason != "" {
		e.Allowed, e.Reason = false, reason
	}
}

// wouldRefuse looks at what comes after the policy's yes, without taking anything.
func (b *Broker) wouldRefuse(v *verdict, name string, e *Explanation) string {
	t := b.tree(name)
	if v.decision.Approval && !b.approved(t, v) {
		return needsApproval + name
	}
	if v.decision.Credential == policy.CredentialNone {
		return noToken(v.decision)
	}
	if v.decision.Level == policy.LevelIsolated && !v.subject.Host {
		if reason := t.foreign(v.subject, b.cfg.Attestor); reason != "" {
			return reason
		}
	}
	doc, err := b.document(t)
	if err == nil && !t.documented() {
		err = vault.ErrLocked
	}
	if err != nil {
		return err.Error()
	}
	if v.decision.Credential == policy.CredentialAPIKey {
		doc = &document{} // a login that was made inside the tree is no key
	}
	if doc.LoggedOut {
		e.Reason += "; the tree is logged out (claudefs tree reset " + name + ")"
		return ""
	}
	account, err := b.choose(v.decision, t, doc)
	if err != nil {
		return err.Error()
	}
	e.Account = string(account)
	t.mu.Lock()
	err = t.pinned(pin{account, v.decision.RefreshToken, v.decision.Rule})
	t.mu.Unlock()
	if err != nil {
		return err.Error()
	}
	cred, err := b.cfg.Tokens.Current(account)
	if err != nil {
		return err.Error()
	}
	e.ExpiresAt = cred.ExpiresAt
	if err := errors.Join(fits(cred, v.decision), within(cred, v.decision)); err != nil {
		return err.Error()
	}
	return ""
}
