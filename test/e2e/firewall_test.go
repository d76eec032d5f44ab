//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// A logout in one container stays there: the other tree of the same account goes on, and the account keeps its login.
func TestLogoutStaysInItsTree(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("default", false)
	one := a.run(dockertest.RunConfig{Mounts: []string{h.tree("one")}})
	two := a.run(dockertest.RunConfig{Mounts: []string{h.tree("two")}})
	if r := one.prompt("before"); r.ExitCode != 0 {
		t.Fatalf("before: %s", r.Text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if r, err := claudeclient.Once(ctx, one.claude(ctx, "auth", "logout")); err != nil || r.ExitCode != 0 {
		t.Fatalf("auth logout: %v %+v", err, r)
	}
	if r := one.prompt("after"); r.ExitCode == 0 {
		t.Errorf("the tree that logged out is still answered: %s", r.Text)
	}
	if r := two.prompt("other tree"); r.ExitCode != 0 {
		t.Errorf("the other tree: exit %d %s", r.ExitCode, r.Text)
	}
	if e := h.lastEvent(audit.ActionLogout, "one"); e.Outcome != audit.Allowed {
		t.Errorf("audit says %+v", e)
	}
	// The client posts what it takes for its refresh token to be revoked; that is the surrogate, and reaches nobody's
	// login: the token endpoint of the host never saw it.
	for _, r := range h.tokens.Requests() {
		if !issued(h, r.RefreshToken) {
			t.Error("a surrogate reached the token endpoint")
		}
	}
	if h.tokens.Lost() != 0 {
		t.Error("the login is lost")
	}
	if out, code := h.run("status"); code != 0 || !strings.Contains(out, "claudefs tree reset one") {
		t.Errorf("status gives no way back: %s", out)
	}
	if out, code := h.run("tree", "reset", "one"); code != 0 {
		t.Fatalf("tree reset: %s", out)
	}
	if r := one.prompt("after reset"); r.ExitCode != 0 {
		t.Errorf("after the reset: exit %d %s", r.ExitCode, r.Text)
	}
}

// A login made inside a container is taken into the vault as the tree's own account, and serves its next prompt.
func TestLoginInsideIsCaptured(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active), Token: h.tokens})
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	if r := b.prompt("no login yet"); r.ExitCode == 0 {
		t.Fatalf("answered without a login: %s", r.Text)
	}
	fresh := h.tokens.NewLogin()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	argv := []string{
		"exec", "-i", "-e", "CLAUDE_CONFIG_DIR=/claude", "-e", "HOME=/tmp", "-w", "/tmp",
		"-e", "CLAUDE_CODE_OAUTH_REFRESH_TOKEN=" + fresh.RefreshToken, "-e", "CLAUDE_CODE_OAUTH_SCOPES=" + strings.Join(fresh.Scopes, " "),
	}
	for _, kv := range claudeclient.Env("/ca.pem") {
		argv = append(argv, "-e", kv)
	}
	r, err := claudeclient.Once(ctx, docker.Docker(ctx, append(argv, b.ID, "claude", "auth", "login")...))
	if err != nil || r.ExitCode != 0 {
		t.Fatalf("auth login: %v exit %d: %s %s", err, r.ExitCode, r.Text, r.Stderr)
	}
	if e := h.lastEvent(audit.ActionCapture, "web"); e.Outcome != audit.Allowed || e.Account != "web" {
		t.Errorf("audit says %+v", e)
	}
	if r := b.prompt("after login"); r.ExitCode != 0 {
		t.Errorf("after login: exit %d: %s %s", r.ExitCode, r.Text, r.Stderr)
	}
	// From here the daemon renews it.
	if out, code := h.run("refresh", "--account", "web", "--force"); code != 0 {
		t.Errorf("refresh: exit %d: %s", code, out)
	}
	if r := b.prompt("after rotation"); r.ExitCode != 0 {
		t.Errorf("after rotation: exit %d: %s", r.ExitCode, r.Text)
	}
}

// What else a client writes into its credential file is the tree's own and survives rotation and restart; what is no
// login, or another tree's placeholder, changes nothing.
func TestWritesAreAbsorbed(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	one := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("one")}})
	two := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("two")}})
	get := func(c *dockertest.Container) string {
		t.Helper()
		out, errText, code := c.Exec(context.Background(), "root", cat...)
		if code != 0 {
			t.Fatalf("read: %s", errText)
		}
		return out
	}
	put := func(c *dockertest.Container, text string) int {
		t.Helper()
		_, _, code := c.Exec(context.Background(), "root", "sh", "-c",
			"printf %s \"$0\" > /claude/.credentials.json.tmp.1 && mv /claude/.credentials.json.tmp.1 /claude/.credentials.json", text)
		return code
	}
	was, other := get(one), get(two)
	var f map[string]any
	if err := json.Unmarshal([]byte(was), &f); err != nil {
		t.Fatal(err)
	}
	f["mcpOAuth"] = map[string]any{"server": "kept"}
	with, _ := json.Marshal(f)
	if code := put(one, string(with)); code != 0 {
		t.Errorf("metadata: exit %d", code)
	}
	if !strings.Contains(get(one), `"kept"`) || strings.Contains(get(two), `"kept"`) {
		t.Error("other members are not this tree's own")
	}
	for name, text := range map[string]string{"garbage": "not json", "another tree's surrogate": other, "doubled": `{"a":1,"a":2}`} {
		if code := put(one, text); code == 0 {
			t.Errorf("%s was accepted", name)
		}
	}
	if e := h.lastEvent(audit.ActionAbsorb, "one"); e.Outcome != audit.Denied {
		t.Errorf("audit says %+v", e)
	}
	if out, code := h.run("refresh", "--force"); code != 0 {
		t.Fatalf("refresh: %s", out)
	}
	now := get(one)
	if !strings.Contains(now, `"kept"`) || access(now) == access(was) || !h.tokens.Active(access(now)) {
		t.Error("after a rotation the tree does not show its own members beside the new token")
	}
	if access(now) != access(get(two)) {
		t.Error("the trees of one account show different tokens")
	}
}

// A dead login is a state with a hint, not a loop: one request, then none.
func TestDeadLogin(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", server: refreshtest.Config{RevokeFamily: true}})
	l := h.login("default", false)
	h.tokens.Spend(l.RefreshToken) // somebody else used it: ours is worthless now
	c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	out, code := h.run("refresh", "--force")
	if code != 4 || !strings.Contains(out, "hint: claudefs import") {
		t.Errorf("refresh: exit %d: %s", code, out)
	}
	before := len(h.tokens.Requests())
	for range 10 {
		if _, errText, code := c.Exec(context.Background(), "root", cat...); code != 0 {
			t.Errorf("the old token is still valid by its own date and was refused: %s", errText)
		}
	}
	if out, code := h.run("refresh", "--force"); code != 4 {
		t.Errorf("second refresh: exit %d: %s", code, out)
	}
	if after := len(h.tokens.Requests()); after != before {
		t.Errorf("%d requests for a dead login", after-before)
	}
	if s := h.status(); s.Accounts[0].State != "dead" {
		t.Errorf("status says %q", s.Accounts[0].State)
	}
	h.login("default", false)
	if s := h.status(); s.Accounts[0].State != "valid" {
		t.Errorf("after a new login status says %q", s.Accounts[0].State)
	}
}
