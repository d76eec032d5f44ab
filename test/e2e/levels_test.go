//go:build e2e

package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// The real client in containers of each level is answered with the right account's token.
func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level  string
		labels map[string]string
		trees  map[string]string // tree -> account whose token its container must present
		user   string
	}{
		{level: "shared", trees: map[string]string{"one": "default", "two": "default"}},
		{level: "project", trees: map[string]string{"shop": "shop"}, labels: map[string]string{"com.docker.compose.project": "shop"}},
		{level: "isolated", trees: map[string]string{"web": "web", "api": "api"}, user: "node"},
	} {
		t.Run(c.level, func(t *testing.T) {
			h := newHost(t, hostOptions{policy: c.level})
			a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
			tokens := map[string]string{}
			for tree, account := range c.trees {
				if tokens[account] == "" {
					tokens[account] = h.login(account, false).AccessToken
				}
				b := a.run(dockertest.RunConfig{Mounts: []string{h.tree(tree)}, Labels: c.labels, User: c.user})
				r := b.prompt("hi from " + tree)
				if want := claudeapi.Echo("hi from "+tree, tokens[account]); r.Text != want || r.ExitCode != 0 {
					t.Errorf("tree %s: got %q (exit %d, %s), want %q", tree, r.Text, r.ExitCode, r.Stderr, want)
				}
				if e := h.lastEvent(audit.ActionRead, tree); e.Outcome != audit.Allowed || e.Account != account || e.Container != b.ID {
					t.Errorf("tree %s: audit says %+v", tree, e)
				}
			}
			checkQuiet(t, h, a)
		})
	}
}

// checkQuiet fails when a client spoke to the token endpoint, or when anybody spent a surrogate.
func checkQuiet(t *testing.T, h *host, a *api) {
	t.Helper()
	if v := a.Violations(); len(v) > 0 {
		t.Errorf("clients called the token endpoint %d times: %v", len(v), v[0])
	}
	for _, r := range h.tokens.Requests() {
		if r.UserAgent != "claudefs" {
			t.Errorf("somebody else than the daemon called the token endpoint: %q", r.UserAgent)
		}
		if !issued(h, r.RefreshToken) {
			t.Error("a refresh token was posted that the server never issued: a surrogate")
		}
	}
}

func issued(h *host, token string) bool {
	for _, t := range h.tokens.EveryToken() {
		if t == token {
			return true
		}
	}
	return false
}

// One long session follows three rotations, each of which kills the old token at once, and recovers from a revocation
// on the server by itself.
func TestLongSession(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("web", false)
	s := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}}).session()
	ask := func(text string) time.Duration {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r, err := s.Prompt(ctx, text)
		if err != nil || r.IsError {
			t.Fatalf("prompt %q: %v %+v", text, err, r)
		}
		return r.Duration
	}
	ask("first")
	for _, text := range []string{"after rotation 1", "after rotation 2", "after rotation 3"} {
		if out, code := h.run("refresh", "--account", "web", "--force"); code != 0 {
			t.Fatalf("refresh: exit %d: %s", code, out)
		}
		ask(text)
	}
	if got := h.tokens.Grants(); got != 3 {
		t.Errorf("%d grants after 3 rotations", got)
	}
	h.tokens.RevokeAccess()
	took := ask("after revocation")
	t.Logf("recovered from a revoked token in %v", took)
	if took > 3*time.Second {
		t.Errorf("recovery took %v, want under 3 s", took)
	}
	if got := h.tokens.Grants(); got != 4 {
		t.Errorf("%d grants after the revocation, want 4", got)
	}
	checkQuiet(t, h, a)
}

// The endpoint refuses once, just when a client's token was revoked, and heals at once: the client's own wait is enough.
func TestRevocationDuringAnOutage(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("web", false)
	s := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}}).session()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r, err := s.Prompt(ctx, "first"); err != nil || r.IsError {
		t.Fatalf("first: %v %+v", err, r)
	}
	h.tokens.RevokeAccess()
	h.tokens.SetFault(refreshtest.Fault{Status: 429, RetryAfter: "1"})
	healed := time.AfterFunc(1500*time.Millisecond, func() { h.tokens.SetFault(refreshtest.Fault{}) })
	defer healed.Stop()
	r, err := s.Prompt(ctx, "second")
	if err != nil || r.IsError {
		t.Errorf("second: %v %+v", err, r)
	}
	t.Logf("answered after %v, %d grants", r.Duration, h.tokens.Grants())
	checkQuiet(t, h, a)
}
