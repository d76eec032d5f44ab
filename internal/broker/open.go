package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// errNoToken: the account has never had a token that could be served, for now. It is EIO to the reader: not "no".
var errNoToken = errors.New("no token is known for now")

// Open implements fs.Credentials: the read path.
func (b *Broker) Open(ctx context.Context, caller identity.Caller, name string) (*fs.Snapshot, error) {
	t := b.tree(name)
	defer b.save(t)
	v, err := b.judge(ctx, caller, t, audit.ActionRead)
	if err != nil {
		return nil, err
	}
	if reason := b.limits.exceeded(limited{name, v.reader(), v.decision.ReadsPerMinute}); reason != "" {
		return nil, b.refuse(t, v, fmt.Errorf("%w: %s", policy.ErrDenied, reason))
	}
	snap, c, note, err := b.snapshot(ctx, t, v)
	if err != nil {
		return nil, b.refuse(t, v, err)
	}
	if err := b.disclose(t, v, c, note); err != nil {
		// Fail closed: what cannot be recorded is not disclosed.
		clear(snap.Content)
		return nil, err
	}
	return snap, nil
}

// snapshot picks the account, gets its token and renders the file. note is what is special about the token.
func (b *Broker) snapshot(ctx context.Context, t *tree, v *verdict) (*fs.Snapshot, *vault.Credential, string, error) {
	doc, err := b.document(t)
	if err != nil {
		return nil, nil, "", err
	}
	if !t.documented() {
		// Fail closed: whether the tree is logged out, and whose login it uses, cannot be known.
		return nil, nil, "", fmt.Errorf("%w: %w", errNoToken, vault.ErrLocked)
	}
	if doc.LoggedOut {
		out, err := b.render(t, doc, pin{}, nil)
		return &fs.Snapshot{Stat: stat(t, doc, pin{}, nil, len(out)), Content: out}, nil, "the tree is logged out", err
	}
	account, err := b.choose(v.decision, t, doc)
	if err != nil {
		return nil, nil, "", err
	}
	p := pin{account, v.decision.RefreshToken, v.decision.Rule}
	if err := t.pinTo(p); err != nil {
		return nil, nil, "", err
	}
	c, note, err := b.token(ctx, account)
	if err == nil {
		err = fits(c, v.decision)
	}
	if err == nil {
		err = within(c, v.decision)
	}
	if err != nil {
		return nil, nil, "", err
	}
	out, err := b.render(t, doc, p, c)
	if err != nil {
		return nil, nil, "", err
	}
	return &fs.Snapshot{Stat: stat(t, doc, p, c, len(out)), Content: out}, c, note, nil
}

// within refuses an account that may do more than the rule gives. Its token cannot be narrowed: of the servers that were
// tried one passes over a narrower scope in a refresh (RFC 6749, 6), and another narrows the login for good.
func within(c *vault.Credential, d policy.Decision) error {
	if d.Scopes == nil {
		return nil
	}
	if len(c.Scopes) == 0 {
		// Fail closed: an account of unknown scopes may have any.
		return fmt.Errorf("%w: the scopes of account %q are not known, and the rule names some", policy.ErrDenied, c.Account)
	}
	for _, s := range c.Scopes {
		if !slices.Contains(d.Scopes, s) {
			return fmt.Errorf("%w: account %q has been granted %q, the rule gives only %s", policy.ErrDenied, c.Account, s, strings.Join(d.Scopes, " "))
		}
	}
	return nil
}

// token returns what can be served now. While any token is known there is no error but "login required": a client
// treats every error as "not logged in", and can wait by itself for a newer token when this one does not work.
func (b *Broker) token(ctx context.Context, a vault.AccountID) (*vault.Credential, string, error) {
	c, err := b.cfg.Tokens.Token(ctx, a)
	if err == nil {
		if c.State == vault.StateDead || c.State == vault.StateHold {
			return c, "login required soon: " + c.Why, nil
		}
		return c, "", nil
	}
	if errors.Is(err, refresh.ErrLoginRequired) || errors.Is(err, context.Canceled) || errors.Is(err, vault.ErrNotFound) {
		return nil, "", err
	}
	last, lastErr := b.cfg.Tokens.Current(a)
	if lastErr != nil || last.AccessToken.IsZero() || last.Lifetime() <= 0 && !last.ExpiresAt.IsZero() && time.Now().After(last.ExpiresAt) {
		return nil, "", fmt.Errorf("%w: %w", errNoToken, err)
	}
	return last, "expired token: " + err.Error(), nil
}

// disclose records the disclosure and remembers what was handed out.
func (b *Broker) disclose(t *tree, v *verdict, c *vault.Credential, note string) error {
	reason := v.decision.Reason
	if note != "" {
		reason += "; " + note
	}
	e := v.event(audit.ActionRead, audit.Allowed, t.name, reason)
	if c != nil {
		e.Account, e.Token, e.Generation = string(c.Account), c.AccessToken.Fingerprint(), c.Generation
		if !c.ExpiresAt.IsZero() {
			e.ExpiresAt = &c.ExpiresAt
		}
	}
	if err := b.cfg.Audit.Record(e); err != nil {
		return err
	}
	if c != nil {
		b.remember(t, c)
	}
	t.noteReader(v, "allowed")
	return nil
}

// refuse records a refusal that came after the policy's yes: a pin, a missing or dead login.
func (b *Broker) refuse(t *tree, v *verdict, cause error) error {
	outcome := audit.Failed
	if errors.Is(cause, policy.ErrDenied) || errors.Is(cause, errNoAccount) || errors.Is(cause, refresh.ErrLoginRequired) {
		outcome = audit.Denied
	}
	reason := cause.Error()
	if errors.Is(cause, vault.ErrNotFound) {
		cause = fmt.Errorf("%w: %w", errNoAccount, errors.New(reason))
		outcome = audit.Denied
	}
	t.noteReader(v, reason)
	return errors.Join(cause, b.cfg.Audit.Record(v.event(audit.ActionRead, outcome, t.name, reason)))
}
