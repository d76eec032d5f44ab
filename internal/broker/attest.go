package broker

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/sentinel"
	"github.com/claudefs/claudefs/policy"
)

// verdict is an attested caller and what the policy says of it.
type verdict struct {
	caller   identity.Caller
	subject  *identity.Subject // nil when attestation failed early
	facts    *identity.Facts
	decision policy.Decision
}

// event begins an audit record about the verdict.
func (v *verdict) event(a audit.Action, o audit.Outcome, tree, reason string) audit.Event {
	e := audit.Event{Action: a, Outcome: o, Tree: tree, Rule: v.decision.Rule, Reason: reason}
	e.Describe(v.caller, v.subject, v.facts)
	return e
}

// reader names who reads, for counting.
func (v *verdict) reader() string {
	if v.subject.Host {
		return fmt.Sprintf("uid %d", v.caller.UID)
	}
	return v.subject.Container
}

// judge attests the caller and asks the policy. A refusal is audited here, with its true reason, and returned as
// ErrDenied: the caller learns only that it was refused.
func (b *Broker) judge(ctx context.Context, c identity.Caller, t *tree, action audit.Action) (*verdict, error) {
	return b.judgeFor(ctx, c, t, action, policy.CredentialOAuth)
}

// judgeFor is judge for a reader of what a rule may give: the credential file, or the key.
func (b *Broker) judgeFor(ctx context.Context, c identity.Caller, t *tree, action audit.Action, want policy.Credential) (*verdict, error) {
	v := &verdict{caller: c}
	cause, reason := policy.ErrDenied, b.attest(ctx, v, t)
	if reason == "" && v.decision.Credential != want {
		reason = noToken(v.decision)
		if action == audit.ActionRead {
			cause = errNoCredential
		}
	}
	if reason == "" {
		return v, nil
	}
	t.noteReader(v, reason)
	if err := b.cfg.Audit.Record(v.event(action, audit.Denied, t.name, reason)); err != nil {
		return nil, fmt.Errorf("audit refusal: %w", err)
	}
	return nil, fmt.Errorf("%w: %s", cause, reason)
}

// errNoCredential: a rule leaves a tree without a credential file. It wraps fs.ErrNotExist.
var errNoCredential = sentinel.New("there is no credential file", iofs.ErrNotExist)

// noToken is why a rule that allows gives no access token.
func noToken(d policy.Decision) string {
	if d.Credential == policy.CredentialAPIKey {
		return fmt.Sprintf("rule %s gives an API key, and no credential file", d.Rule)
	}
	if d.Credential == policy.CredentialOAuth {
		return fmt.Sprintf("rule %s gives no API key", d.Rule)
	}
	return fmt.Sprintf("rule %s gives no credential", d.Rule)
}

// attest fills in v and returns why the caller is refused, "" when it is not.
func (b *Broker) attest(ctx context.Context, v *verdict, t *tree) string {
	q, reason := b.identify(ctx, v, t.name)
	if reason != "" {
		return reason
	}
	v.decision = b.policy.Load().Decide(q)
	if !v.decision.Allowed {
		return v.decision.Reason
	}
	if reason := b.unapproved(t, v); reason != "" {
		return reason
	}
	if v.decision.Level == policy.LevelIsolated && !v.subject.Host {
		return t.take(v.subject, v.facts, b.cfg.Attestor)
	}
	return ""
}

// identify fills in who the caller is, and makes the question to the policy of it; or it says why that is not asked.
func (b *Broker) identify(ctx context.Context, v *verdict, tree string) (q policy.Request, reason string) {
	var err error
	if v.subject, err = b.cfg.Attestor.Resolve(ctx, v.caller); err != nil {
		return q, err.Error()
	}
	q = policy.Request{Tree: tree, Subject: v.subject, Started: func() (time.Time, error) { return b.started(v) }}
	if v.subject.Host {
		return q, ""
	}
	if err := v.subject.Holds(tree); err != nil {
		return q, err.Error()
	}
	v.facts, q.FactsErr = b.facts(ctx, v.subject)
	if errors.Is(q.FactsErr, identity.ErrDenied) {
		return q, q.FactsErr.Error()
	}
	q.Facts = v.facts
	return q, b.undeclared(v.facts, tree)
}

// started is when the caller's container started: as the runtime says, or its first process.
func (b *Broker) started(v *verdict) (time.Time, error) {
	if v.facts != nil && !v.facts.Started.IsZero() {
		return v.facts.Started, nil
	}
	witness, err := b.cfg.Attestor.Witness(v.subject, firstProcess(v.facts))
	if err != nil {
		return time.Time{}, err
	}
	return witness.Started()
}

// facts asks the runtime and has the kernel confirm its answer. Without a runtime, or for a container that no runtime
// made, there are none and no error.
func (b *Broker) facts(ctx context.Context, s *identity.Subject) (*identity.Facts, error) {
	if b.cfg.Runtime == nil {
		return nil, nil
	}
	// A signal to the caller must not leave the container unknown: that would be a refusal.
	ctx = context.WithoutCancel(ctx)
	if s.Runtime == "namespace" {
		return b.ofNamespace(ctx, s)
	}
	f, err := b.confirmed(ctx, s)
	if errors.Is(err, identity.ErrDenied) {
		// A container that was started again has another first process, and the runtime's word of that may come late.
		b.cfg.Runtime.Forget(s.Container)
		f, err = b.confirmed(ctx, s)
	}
	return f, err
}

// confirmed is what the runtime says of a container, if the kernel says the same.
func (b *Broker) confirmed(ctx context.Context, s *identity.Subject) (*identity.Facts, error) {
	f, err := b.cfg.Runtime.Inspect(ctx, s.Container)
	if err != nil {
		return nil, fmt.Errorf("ask container runtime: %w", err)
	}
	if f.InitPID == 0 {
		return nil, errors.New("ask container runtime: the container is not running yet")
	}
	if err := b.cfg.Attestor.ConfirmInit(s, f.InitPID); err != nil {
		return f, err
	}
	return f, b.cfg.Attestor.Vouched(f)
}

// undeclared refuses a container that holds the tree although its runtime was never told to mount it: it got there
// through another container's namespaces, or through a mount of a directory above.
func (b *Broker) undeclared(f *identity.Facts, tree string) string {
	if f == nil {
		return ""
	}
	for _, m := range f.Mounts {
		if filepath.Base(m.Source) == tree && b.isMountpoint(filepath.Dir(m.Source)) {
			return ""
		}
	}
	return "container holds the tree but was not started with a mount of it"
}

// isMountpoint reports whether dir is our mountpoint, also when it is spelled through symlinks above it. The
// mountpoint itself is not touched: that would be a request to ourselves.
func (b *Broker) isMountpoint(dir string) bool {
	if dir == b.cfg.Mountpoint {
		return true
	}
	if filepath.Base(dir) != filepath.Base(b.cfg.Mountpoint) {
		return false
	}
	theirs, err1 := filepath.EvalSymlinks(filepath.Dir(dir))
	ours, err2 := filepath.EvalSymlinks(filepath.Dir(b.cfg.Mountpoint))
	return err1 == nil && err2 == nil && theirs == ours
}
