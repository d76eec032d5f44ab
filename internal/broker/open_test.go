package broker_test

import (
	"bytes"
	"context"
	"errors"
	iofs "io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

func TestNewNeedsItsParts(t *testing.T) {
	if b, err := broker.New(broker.Config{}); err == nil {
		t.Errorf("got %v, want an error", b)
	}
}

func TestOpenRecordsTheDisclosure(t *testing.T) {
	w := newWorld(t, "shared")
	l := w.login(t, "default")
	c := w.container("web", "web")
	got := w.read(t, c, "web")
	if got.access != l.AccessToken || !got.loggedIn {
		t.Errorf("got %+v, want access token %s", got, l.AccessToken)
	}
	uid := uint32(0)
	ends := time.UnixMilli(l.ExpiresAt.UnixMilli())
	want := audit.Event{
		Action: audit.ActionRead, Outcome: audit.Allowed, Tree: "web", Account: "default", Rule: "shared",
		Reason: "rule shared", Container: w.subject(c).Container, Name: "web", Image: "acme/web", UID: &uid, TID: c.TID,
		Exe: "/usr/bin/node", Token: secret(l.AccessToken).Fingerprint(), Generation: 1, ExpiresAt: &ends,
	}
	if d := cmp.Diff(want, w.log.last(t)); d != "" {
		t.Error(d)
	}
}

// Fail closed: what cannot be recorded is not disclosed.
func TestOpenFailsClosedWithoutAudit(t *testing.T) {
	w := newWorld(t, "shared")
	l := w.login(t, "default")
	c := w.container("web", "web")
	full := errors.New("disk is full")
	w.log.fail(full)
	s, err := w.Open(t.Context(), c, "web")
	if s != nil {
		t.Error("a snapshot was returned")
	}
	wantErr(t, err, full)
	// Nothing is remembered as handed out, nor said to be read.
	w.log.fail(nil)
	if err := w.Check("web", []byte(l.AccessToken)); err != nil {
		t.Errorf("the token counts as handed out: %v", err)
	}
	if got := w.read(t, c, "web").access; got != l.AccessToken {
		t.Errorf("after the log is back: got %q", got)
	}
}

func TestRefusalFailsClosedWithoutAudit(t *testing.T) {
	w := newWorld(t, "shared")
	full := errors.New("disk is full")
	w.log.fail(full)
	_, err := w.Open(t.Context(), w.host(1000), "web")
	wantErr(t, err, full)
}

// Every way to be refused is one record, with its true reason; the caller gets a permission error.
func TestDenials(t *testing.T) {
	labelled := "  - {name: labelled, match: {container: {labels: {team: shop}}}, allow: {level: shared}}\n"
	for _, tt := range []struct {
		name, policy string
		prepare      func(*world, *identity.Caller)
		rule, reason string
		anonymous    bool // the record cannot name the container
	}{
		{
			name: "unknown caller", policy: "shared", reason: identity.ErrNoCaller.Error(), anonymous: true,
			prepare: func(w *world, c *identity.Caller) { c.TID = 0 },
		},
		{
			name: "forged cgroup", policy: "shared", reason: "first process is in another pid namespace",
			prepare: func(w *world, _ *identity.Caller) { w.att.forged = identity.ErrForged },
		},
		{
			name: "tree is not mounted", policy: "shared", reason: "does not hold this tree",
			prepare: func(w *world, c *identity.Caller) { w.subject(*c).Roots = []string{"/other"} },
		},
		{
			name: "longer name", policy: "shared", reason: "does not hold this tree",
			prepare: func(w *world, c *identity.Caller) { w.subject(*c).Roots = []string{"/web-2"} },
		},
		{
			name: "whole mount", policy: "shared", reason: "the whole mount",
			prepare: func(w *world, c *identity.Caller) { w.subject(*c).Roots = []string{"/web", "/"} },
		},
		{
			name: "undeclared mount", policy: "shared", reason: "was not started with a mount of it",
			prepare: func(w *world, c *identity.Caller) { w.facts(*c).Mounts = nil },
		},
		{name: "deny rule", policy: "  - {name: no, deny: 'closed today'}\n", rule: "no", reason: "closed today"},
		{name: "no rule matches", policy: labelled, reason: "no rule matches"},
		{
			name: "host process", policy: "  - {name: box, match: {container: {}}, allow: {level: shared}}\n", reason: "no rule names this host process",
			anonymous: true, prepare: func(w *world, c *identity.Caller) { *c = w.host(1000) },
		},
		{
			name: "runtime is down", policy: labelled, rule: "labelled", reason: "needs facts from the container runtime: ask container runtime: no answer",
			prepare: func(w *world, _ *identity.Caller) { w.engine.err = errors.New("no answer") },
		},
		{
			name: "runtime does not know it", policy: labelled, rule: "labelled", reason: "runtime knows no such container",
			prepare: func(w *world, c *identity.Caller) { clear(w.engine.facts) },
		},
		{
			name: "not running yet", policy: labelled, rule: "labelled", reason: "not running yet",
			prepare: func(w *world, c *identity.Caller) { w.facts(*c).InitPID = 0 },
		},
		{
			name: "container of no runtime", policy: labelled, rule: "labelled", reason: "its cgroup names none",
			prepare: func(w *world, c *identity.Caller) { w.subject(*c).Runtime = "namespace" },
		},
		{
			name: "container of a namespace, and a runtime is down", policy: labelled, rule: "labelled", reason: "ask container runtime: no answer",
			prepare: func(w *world, c *identity.Caller) {
				w.subject(*c).Runtime, w.engine.err = "namespace", errors.New("no answer")
			},
		},
		{
			name: "runtime has no say", policy: "shared", reason: "does not own the container's user namespace",
			prepare: func(w *world, _ *identity.Caller) { w.att.unvouched = identity.ErrUnvouched },
		},
		{
			name: "isolated, and powers are not known", policy: "isolated", rule: "isolated", reason: "needs to know the container's powers",
			prepare: func(w *world, c *identity.Caller) { w.subject(*c).Runtime = "namespace" },
		},
		{
			name: "powers", policy: "isolated", rule: "isolated", reason: "could become another one: privileged",
			prepare: func(w *world, c *identity.Caller) { w.facts(*c).Powers = []string{"privileged"} },
		},
		{name: "other project", policy: "project", rule: "project", reason: `container's project is "", not the tree's name`},
		{
			name: "no witness", policy: "isolated", rule: "isolated", reason: "stands for the container: nobody",
			prepare: func(w *world, _ *identity.Caller) { w.att.blind = errors.New("nobody") },
		},
		{name: "no account of its own", policy: "isolated", rule: "isolated", reason: `account "web" is missing`},
		{name: "account is missing", policy: "shared", rule: "shared", reason: "not in the vault"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.policy)
			c := w.container("web", "web")
			container := w.subject(c).Container
			if tt.anonymous {
				container = ""
			}
			if tt.prepare != nil {
				tt.prepare(w, &c)
			}
			s, err := w.Open(t.Context(), c, "web")
			if s != nil || !errors.Is(err, iofs.ErrPermission) {
				t.Errorf("got %v and %v, want a permission error", s, err)
			}
			e := w.log.last(t)
			got := []any{e.Action, e.Outcome, e.Tree, e.Rule, e.Container, e.Token}
			want := []any{audit.ActionRead, audit.Denied, "web", tt.rule, container, ""}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("reason %q, want %q in it", e.Reason, tt.reason)
			}
		})
	}
}

// The same refusals meet a writer and a client's lock.
func TestDenialsOfWriteAndLock(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	w.facts(c).Mounts = nil
	_, err := w.Write(t.Context(), c, "web")
	wantErr(t, err, policy.ErrDenied)
	if e := w.log.last(t); e.Action != audit.ActionWrite || e.Outcome != audit.Denied {
		t.Errorf("write: got %+v", e)
	}
	wantErr(t, w.Acquire(t.Context(), c, "web"), policy.ErrDenied)
	if e := w.log.last(t); e.Action != audit.ActionRefresh || e.Outcome != audit.Denied {
		t.Errorf("lock: got %+v", e)
	}
}

func TestUndeclaredMounts(t *testing.T) {
	real := t.TempDir()
	link := t.TempDir() + "/link"
	if err := errors.Join(mkdir(real+"/mnt"), symlink(real, link), symlink(real+"/mnt", real+"/alias")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		mounts []identity.Mount
		want   error
	}{
		{"exact", []identity.Mount{{Type: "bind", Source: real + "/mnt/web"}}, nil},
		{"among others", []identity.Mount{{Type: "bind", Source: "/srv"}, {Type: "bind", Source: real + "/mnt/web"}}, nil},
		{"through a symlink above", []identity.Mount{{Type: "bind", Source: link + "/mnt/web"}}, nil},
		{"through a symlink to the mountpoint", []identity.Mount{{Type: "bind", Source: real + "/alias/web"}}, policy.ErrDenied},
		{"same name elsewhere", []identity.Mount{{Type: "bind", Source: "/srv/mnt/web"}}, policy.ErrDenied},
		{"another tree", []identity.Mount{{Type: "bind", Source: real + "/mnt/other"}}, policy.ErrDenied},
		{"the whole mount", []identity.Mount{{Type: "bind", Source: real + "/mnt"}}, policy.ErrDenied},
		{"above", []identity.Mount{{Type: "bind", Source: real}}, policy.ErrDenied},
		{"volume", []identity.Mount{{Type: "volume", Source: "/var/lib/docker/volumes/web/_data"}}, policy.ErrDenied},
		{"none", nil, policy.ErrDenied},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "shared", func(c *broker.Config) { c.Mountpoint = real + "/mnt" })
			w.login(t, "default")
			c := w.container("web", "web")
			w.facts(c).Mounts = tt.mounts
			_, err := w.Open(t.Context(), c, "web")
			wantErr(t, err, tt.want)
		})
	}
}

// Without a runtime, kernel facts are enough for a rule that asks for no more.
func TestOpenWithoutRuntime(t *testing.T) {
	w := newWorld(t, "shared", func(c *broker.Config) { c.Runtime = nil })
	w.login(t, "default")
	c := w.container("web", "web")
	w.subject(c).Runtime = "namespace"
	w.open(t, c, "web")
}

// A container that no cgroup names is known by its pid namespace, and all that its runtime says of it counts.
func TestOpenByNamespace(t *testing.T) {
	w := newWorld(t, "isolated")
	w.login(t, "web")
	c := w.container("web", "web")
	f := w.facts(c)
	s := w.subject(c)
	s.Runtime, s.Container, s.PidNamespace = "namespace", identity.NamespaceID(4711), uint64(f.InitPID)
	w.open(t, c, "web")
	if e := w.log.last(t); e.Name != "web" || e.Container != s.Container {
		t.Errorf("got %+v", e)
	}
	f.Mounts = nil
	if _, err := w.Open(t.Context(), c, "web"); err == nil || !strings.Contains(w.log.last(t).Reason, "was not started with a mount of it") {
		t.Errorf("undeclared mount: got %v", err)
	}
}

// A signal to the reader while the runtime is asked is no refusal.
func TestOpenInterrupted(t *testing.T) {
	w := newWorld(t, "isolated")
	w.login(t, "web")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Open(ctx, w.container("web", "web"), "web"); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, e := range w.log.since() {
		if e.Outcome == audit.Denied {
			t.Errorf("a refusal is recorded: %s", e.Reason)
		}
	}
}

func TestTokenStates(t *testing.T) {
	down := refreshtest.Fault{Status: 429}
	for _, tt := range []struct {
		name    string
		prepare func(testing.TB, *world)
		outcome audit.Outcome
		reason  string
		want    error // nil: the last token is served
	}{
		{
			"expired, endpoint fails", func(t testing.TB, w *world) { w.edit(t, "default", expire); w.srv.SetFault(down) },
			audit.Allowed, "expired token: refresh default: grant: throttled", nil,
		},
		{"expired static token", func(t testing.TB, w *world) {
			w.edit(t, "default", func(c *vault.Credential) { expire(c); c.RefreshToken = vault.Secret{} })
		}, audit.Allowed, "expired token: refresh default: account has no refresh token", nil},
		{"dead, still good", func(t testing.TB, w *world) {
			w.edit(t, "default", func(c *vault.Credential) { c.State, c.Why = vault.StateDead, "invalid_grant" })
		}, audit.Allowed, "login required soon: invalid_grant", nil},
		{"dead and expired", func(t testing.TB, w *world) {
			w.edit(t, "default", func(c *vault.Credential) { expire(c); c.State, c.Why = vault.StateDead, "invalid_grant" })
		}, audit.Denied, "login required: invalid_grant", refresh.ErrLoginRequired},
		{"on hold and expired", func(t testing.TB, w *world) {
			w.edit(t, "default", func(c *vault.Credential) { expire(c); c.State, c.Why = vault.StateHold, "see page" })
		}, audit.Denied, "login required: see page", refresh.ErrLoginRequired},
		{"was never good", func(t testing.TB, w *world) {
			w.edit(t, "default", func(c *vault.Credential) { expire(c); c.IssuedAt = c.ExpiresAt.Add(time.Hour) })
			w.srv.SetFault(down)
		}, audit.Failed, "no token is known for now", errAny},
		{"vault is locked, token known", func(t testing.TB, w *world) {
			w.open(t, w.container("other", "web"), "web")
			w.log.since()
			w.vault.Lock()
		}, audit.Allowed, "rule shared", nil},
		{
			"vault is locked, nothing known", func(t testing.TB, w *world) { w.vault.Lock(); w.forget(t) },
			audit.Failed, "no token is known for now", vault.ErrLocked,
		},
		{"reader was interrupted", func(t testing.TB, w *world) {
			w.edit(t, "default", expire)
			w.srv.SetFault(refreshtest.Fault{Delay: 50 * time.Millisecond})
		}, audit.Failed, "context canceled", context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "shared")
			l := w.login(t, "default")
			tt.prepare(t, w)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if errors.Is(tt.want, context.Canceled) {
				cancel()
			}
			s, err := w.Open(ctx, w.container("web", "web"), "web")
			switch {
			case tt.want == errAny:
				if err == nil || errors.Is(err, iofs.ErrPermission) {
					t.Errorf("got %v, want an error that is not a refusal", err)
				}
			case tt.want != nil:
				wantErr(t, err, tt.want)
			case err != nil:
				t.Fatal(err)
			default:
				if got := look(t, s.Content).access; got != l.AccessToken {
					t.Errorf("got %s, want the last token %s", got, l.AccessToken)
				}
			}
			e := w.log.last(t)
			if e.Outcome != tt.outcome || !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("got %s %q, want %s %q", e.Outcome, e.Reason, tt.outcome, tt.reason)
			}
			if errors.Is(tt.want, context.Canceled) { // the grant goes on without its reader
				w.settle(t)
			}
		})
	}
}

// Fail closed: with the vault locked, nobody can know whether a tree that was not asked for yet is logged out, or has
// a login of its own.
func TestOpenFailsClosedWhenTheTreeIsNotKnown(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	out := w.container("out", "out")
	if err := w.publish(t, out, "out", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	w.restart(t)
	w.open(t, w.container("web", "web"), "web") // the account's token is remembered
	w.vault.Lock()
	s, err := w.Open(t.Context(), out, "out")
	if s != nil || !errors.Is(err, vault.ErrLocked) || errors.Is(err, iofs.ErrPermission) {
		t.Errorf("got %v and %v, want ErrLocked", s, err)
	}
	if err := w.vault.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := w.read(t, out, "out"); got.loggedIn {
		t.Errorf("got %+v, want the tree logged out", got)
	}
}

// No rendered file holds the real refresh token, whatever happened before.
func TestRealRefreshTokenIsNeverShown(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	var all []byte
	for range 3 {
		s := w.open(t, c, "web")
		all = append(all, s.Content...)
		if err := w.publish(t, c, "web", with(t, s.Content, `{"a":1}`)); err != nil {
			t.Fatal(err)
		}
		w.rotate(t, "default")
	}
	if err := w.publish(t, c, "web", file(t, w.srv.NewLogin(), nil)); err != nil {
		t.Fatal(err)
	}
	all = append(all, w.open(t, c, "web").Content...)
	shown := 0
	for _, tok := range w.srv.EveryToken() {
		if !bytes.Contains(all, []byte(tok)) {
			continue
		}
		if shown++; strings.HasPrefix(tok, "sk-ant-ort01") {
			t.Errorf("refresh token %s was shown", tok)
		}
	}
	if shown != 4 {
		t.Errorf("%d access tokens were shown, want 4", shown)
	}
}
