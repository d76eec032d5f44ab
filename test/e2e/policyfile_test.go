//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

const policyFile = `version: 1
rules:
  - name: by-name
    match: {tree: "named-*", container: {name: "e2e-named-*"}}
    allow: {level: shared, account: work}
  - name: by-label-and-image
    match:
      tree: labelled
      container: {labels: {team: [shop, web]}, image: "claudefs-e2e"}
    allow: {level: shared, account: work, refresh_token: "null"}
  - name: me-on-the-host
    match: {tree: mine, host: {uid: [1000]}}
    allow: {level: shared, account: mine}
  - name: rest
    deny: "not covered by policy"
`

// A policy file decides by tree, container name, labels, image and host uid; the first rule that matches decides.
func TestPolicyFile(t *testing.T) {
	h := newHost(t, hostOptions{policy: policyFile})
	h.login("work", false)
	h.login("mine", false)
	run := func(c dockertest.RunConfig, tree string) (string, int) {
		t.Helper()
		c.Image, c.Mounts = image, []string{h.tree(tree)}
		out, _, code := docker.RunContainer(t, c).Exec(context.Background(), "root", cat...)
		return out, code
	}
	if out, code := run(dockertest.RunConfig{Name: "e2e-named-1"}, "named-1"); code != 0 || !strings.Contains(out, "accessToken") {
		t.Errorf("by name: exit %d", code)
	}
	out, code := run(dockertest.RunConfig{Name: "other"}, "named-1")
	refused(t, h, "named-1", out, code, "not covered by policy")
	out, code = run(dockertest.RunConfig{Labels: map[string]string{"team": "shop"}}, "labelled")
	if code != 0 || !strings.Contains(out, `"refreshToken":null`) {
		t.Errorf("by label: exit %d %.200s", code, out)
	}
	out, code = run(dockertest.RunConfig{Labels: map[string]string{"team": "ops"}}, "labelled")
	refused(t, h, "labelled", out, code, "not covered by policy")
	// A tree that no rule allows does not exist: Docker cannot even bind it. (The last rule denies every name.)
	if b, err := docker.Docker(context.Background(), "run", "--rm", "--network=none", "--mount", h.tree("unknown"), image, "true").CombinedOutput(); err == nil {
		t.Errorf("a tree without a rule was bound: %s", b)
	}
	for uid, want := range map[uint32]error{1000: nil, 1001: os.ErrNotExist} {
		out, err := asUser(uid, "cat", h.path("mine", ".credentials.json"))
		if want == nil && (err != nil || !strings.Contains(out, "accessToken")) {
			t.Errorf("uid %d: %v %s", uid, err, out)
		}
		if want != nil && (err == nil || !strings.Contains(out, "No such file")) {
			t.Errorf("uid %d: %v %s", uid, err, out)
		}
	}
}

// asUser runs a command on the host as another user.
func asUser(uid uint32, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	b, err := cmd.CombinedOutput()
	return string(b), err
}

// A daemon that is told to stop while a grant is under way waits for it: the rotated token is not lost.
func TestStopDuringGrant(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated", server: strict})
	h.login("web", false)
	h.tokens.SetFault(refreshtest.Fault{Delay: 4 * time.Second})
	done := make(chan struct{})
	cmd := exec.Command(claudefs, "refresh", "--account", "web", "--force")
	cmd.Env = h.env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(done) }()
	await(t, "the grant's intent", func() bool { s := h.status(); return s.Accounts[0].InDoubt })
	h.stop()
	<-done
	h.tokens.SetFault(refreshtest.Fault{})
	h.start("--policy", "isolated")
	if s := h.status(); s.Accounts[0].Generation != 2 || s.Accounts[0].State != "valid" || s.Accounts[0].InDoubt {
		t.Errorf("after the restart: %+v", s.Accounts[0])
	}
	if out, code := h.run("refresh", "--account", "web", "--force"); code != 0 {
		t.Errorf("the next refresh: exit %d %s", code, out)
	}
	if h.tokens.Lost() != 0 {
		t.Error("the login is lost")
	}
}

// With the vault locked a token that was served goes on being served, nothing is renewed, and unlock heals it.
func TestVaultLock(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("web", false)
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	if r := b.prompt("before"); r.ExitCode != 0 {
		t.Fatal(r.Text)
	}
	if out, code := h.run("vault", "lock"); code != 0 {
		t.Fatal(out)
	}
	if out, code := h.run("refresh", "--account", "web", "--force"); code != 5 || !strings.Contains(out, "hint: claudefs vault unlock") {
		t.Errorf("refresh with a locked vault: exit %d %s", code, out)
	}
	if r := b.prompt("locked"); r.ExitCode != 0 {
		t.Errorf("while locked: exit %d %s", r.ExitCode, r.Text)
	}
	if out, code := h.run("vault", "unlock"); code != 0 {
		t.Fatal(out)
	}
	if out, code := h.run("refresh", "--account", "web", "--force"); code != 0 {
		t.Errorf("refresh after unlock: exit %d %s", code, out)
	}
	if r := b.prompt("after"); r.ExitCode != 0 {
		t.Errorf("after: exit %d %s", r.ExitCode, r.Text)
	}
}
