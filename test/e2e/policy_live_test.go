//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// holder is a container that has the tree of a name mounted.
func (h *host) holder(tree string, c dockertest.RunConfig) *dockertest.Container {
	c.Image, c.Mounts = image, []string{h.tree(tree)}
	return docker.RunContainer(h.t, c)
}

// reads reports whether the container can read its credential, and what came out.
func reads(c *dockertest.Container) (string, bool) {
	out, _, code := c.Exec(context.Background(), "root", cat...)
	return out, code == 0 && strings.Contains(out, "accessToken")
}

// replacePolicy changes the policy file as editors do.
func (h *host) replacePolicy(text string) {
	h.t.Helper()
	if err := os.Rename(h.write("policy.new", text), filepath.Join(h.dir, "policy.yaml")); err != nil {
		h.t.Fatal(err)
	}
}

const openPolicy = "version: 1\nrules:\n  - {name: open, match: {container: {}}, allow: {level: shared, account: default}}\n"

// Another policy holds for a container that runs, from its next open on. A bad one changes nothing and is told by
// status, the log, the command's exit code and the hand-over that SIGHUP asks for.
func TestPolicyReload(t *testing.T) {
	h := newHost(t, hostOptions{policy: openPolicy})
	h.login("default", false)
	c := h.holder("web", dockertest.RunConfig{})
	if _, ok := reads(c); !ok {
		t.Fatalf("before: %s", h.lastEvent(audit.ActionRead, "web").Reason)
	}
	h.replacePolicy("version: 1\nrules:\n  - {name: closed, deny: closed for the day}\n")
	await(t, "the new policy", func() bool { _, ok := reads(c); return !ok })
	out, _ := reads(c)
	refused(t, h, "web", out, 1, "closed for the day")
	h.replacePolicy(openPolicy)
	await(t, "the old policy", func() bool { _, ok := reads(c); return ok })

	h.replacePolicy(openPolicy + "nonsense: 1\n")
	await(t, "status says so", func() bool { return strings.Contains(h.status().InForce.Error, `unknown field "nonsense"`) })
	if out, code := h.run("policy", "reload"); code != 1 || !strings.Contains(out, "policy.yaml:4:1: unknown field") {
		t.Errorf("policy reload: exit %d: %s", code, out)
	}
	if out, _ := h.run("status"); !strings.Contains(out, "policy   NOT AS IN THE FILE") {
		t.Errorf("status: %s", out)
	}
	if !strings.Contains(h.log.String(), "Policy is not changed") {
		t.Error("the log does not say so")
	}
	server := h.server()
	if err := syscall.Kill(h.keeperState().PID, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	await(t, "the hand-over is refused", func() bool { return strings.Contains(h.status().Keeper.HandOverError, "nonsense") })
	if _, ok := reads(c); !ok || h.server() != server {
		t.Errorf("with a bad file the container reads: %t", ok)
	}
	h.replacePolicy(openPolicy)
	await(t, "it is in force again", func() bool { return h.status().InForce.Error == "" })
	if out, code := h.run("policy", "reload"); code != 0 || !strings.Contains(out, "1 rules") {
		t.Errorf("policy reload: exit %d: %s", code, out)
	}
}

const keysPolicy = `version: 1
rules:
  - name: short
    match: {tree: short}
    allow: {level: shared, account: default, ttl: 3s}
  - name: few
    match: {tree: few}
    allow: {level: shared, account: default, reads_per_minute: 2}
  - name: bare
    match: {tree: bare}
    allow: {level: shared, credential: none}
  - name: narrow
    match: {tree: narrow}
    allow: {level: shared, account: default, scopes: ["user:inference"]}
  - name: asked
    match: {tree: asked}
    allow: {level: shared, account: default, approval: first-read}
  - name: nobody
    match: {tree: nobody, container: {user: "65534", privileged: false, runtime: docker}}
    allow: {level: shared, account: default}
  - name: by service
    match: {tree: service, container: {compose_project: shop, compose_service: web}}
    allow: {level: shared, account: "{container}"}
  - name: rest
    deny: "not covered by policy"
`

// Each limit of a rule, on real containers.
func TestPolicyLimits(t *testing.T) {
	h := newHost(t, hostOptions{policy: keysPolicy})
	h.login("default", false)
	h.login("e2e-service-1", false)
	ctx := context.Background()
	t.Run("ttl", func(t *testing.T) {
		c := h.holder("short", dockertest.RunConfig{})
		if _, ok := reads(c); !ok {
			t.Errorf("at once: %s", h.lastEvent(audit.ActionRead, "short").Reason)
		}
		await(t, "its time is over", func() bool { _, ok := reads(c); return !ok })
		out, _ := reads(c)
		refused(t, h, "short", out, 1, "container's time is over")
	})
	t.Run("reads per minute", func(t *testing.T) {
		c, other := h.holder("few", dockertest.RunConfig{}), h.holder("few", dockertest.RunConfig{})
		out, _, code := c.Exec(ctx, "root", "sh", "-c", "for i in 1 2 3; do cat /claude/.credentials.json >/dev/null || exit $i; done")
		if code != 3 {
			t.Errorf("read %d times", code)
		}
		refused(t, h, "few", out, 1, "more than 2 reads in a minute")
		if _, ok := reads(other); !ok {
			t.Error("another container is counted with it")
		}
	})
	t.Run("no credential", func(t *testing.T) {
		c := h.holder("bare", dockertest.RunConfig{})
		out, errText, code := c.Exec(ctx, "root", "sh", "-c", "echo x >/claude/note && cat /claude/note && cat /claude/.credentials.json")
		if out != "x\n" || !strings.Contains(errText, "No such file") {
			t.Errorf("exit %d: %q %q", code, out, errText)
		}
		refused(t, h, "bare", "", code, "gives no credential")
	})
	t.Run("scopes", func(t *testing.T) {
		out, _ := reads(h.holder("narrow", dockertest.RunConfig{}))
		refused(t, h, "narrow", out, 1, `has been granted "user:`)
	})
	t.Run("approval", func(t *testing.T) {
		c, other := h.holder("asked", dockertest.RunConfig{Name: "e2e-asked"}), h.holder("asked", dockertest.RunConfig{})
		out, _ := reads(c)
		refused(t, h, "asked", out, 1, "claudefs tree approve asked")
		if out, code := h.run("tree", "approve", "asked", "--container", "e2e-asked"); code != 0 || !strings.Contains(out, c.ID) {
			t.Errorf("approve: exit %d: %s", code, out)
		}
		if _, ok := reads(c); !ok {
			t.Error("approved, and refused")
		}
		h.crash()
		if _, ok := reads(c); !ok {
			t.Error("the approval is lost with the server")
		}
		out, _ = reads(other)
		refused(t, h, "asked", out, 1, "needs an approval")
	})
	t.Run("user and powers", func(t *testing.T) {
		if _, ok := reads(h.holder("nobody", dockertest.RunConfig{Args: []string{"--user=65534"}})); !ok {
			t.Errorf("user 65534: %s", h.lastEvent(audit.ActionRead, "nobody").Reason)
		}
		for _, c := range []dockertest.RunConfig{{}, {Args: []string{"--user=65534"}, CapAdd: []string{"SYS_PTRACE"}}} {
			out, _ := reads(h.holder("nobody", c))
			refused(t, h, "nobody", out, 1, "not covered by policy")
		}
	})
	t.Run("service and container's account", func(t *testing.T) {
		labels := map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
		if _, ok := reads(h.holder("service", dockertest.RunConfig{Name: "e2e-service-1", Labels: labels})); !ok {
			t.Errorf("service web: %s", h.lastEvent(audit.ActionRead, "service").Reason)
		}
		if e := h.lastEvent(audit.ActionRead, "service"); e.Account != "e2e-service-1" {
			t.Errorf("account %q", e.Account)
		}
		labels = map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "db"}
		out, _ := reads(h.holder("service", dockertest.RunConfig{Labels: labels}))
		refused(t, h, "service", out, 1, "not covered by policy")
	})
}

// What explain says is what a read comes to, for containers by name and id, for processes, and from a saved answer.
func TestPolicyExplain(t *testing.T) {
	h := newHost(t, hostOptions{policy: policyFile})
	h.login("work", false)
	c := h.holder("named-1", dockertest.RunConfig{Name: "e2e-named-9"})
	explain := func(args ...string) (x broker.Explanation) {
		t.Helper()
		out, code := h.run(append([]string{"policy", "explain", "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &x); code != 0 || err != nil {
			t.Fatalf("explain %q: exit %d: %s", args, code, out)
		}
		return x
	}
	for _, args := range [][]string{{"--container", "e2e-named-9"}, {"--container", c.ID[:12]}, {"--pid", itoa(c.Pid())}} {
		x := explain(append(args, "named-1")...)
		if !x.Allowed || x.Rule != "by-name" || x.Account != "work" || x.Caller.Container != c.ID || x.ExpiresAt.Before(time.Now()) {
			t.Errorf("%q: %+v", args, x)
		}
	}
	if x := explain("--container", "e2e-named-9", "labelled"); x.Allowed || !strings.Contains(x.Reason, "does not hold this tree") {
		t.Errorf("another tree: %+v", x)
	}
	if x := explain("--pid", itoa(os.Getpid()), "named-1"); x.Allowed || !x.Caller.Host || x.Reason != "no rule names this host process" {
		t.Errorf("this process: %+v", x)
	}
	if out, code := h.run("policy", "explain", "--container", "nobody-there", "x"); code != 1 || !strings.Contains(out, "no such container") {
		t.Errorf("no container: exit %d: %s", code, out)
	}
	saved, err := docker.Docker(context.Background(), "inspect", c.ID).Output()
	if err != nil {
		t.Fatal(err)
	}
	x := explain("--inspect", h.write("saved.json", string(saved)), "--policy", filepath.Join(h.dir, "policy.yaml"), "named-1")
	if !x.Allowed || x.Rule != "by-name" || x.Caller.Name != "e2e-named-9" {
		t.Errorf("saved: %+v", x)
	}
	for _, e := range h.events() {
		if e.Action == audit.ActionRead {
			t.Errorf("asking left a record: %+v", e)
		}
	}
	if out, ok := reads(c); !ok {
		t.Errorf("the read itself: %s", out)
	}
}

// A rename holds from the next open on; a container that is started again is the same one, and gets its isolated tree.
func TestRenameAndRestart(t *testing.T) {
	h := newHost(t, hostOptions{policy: strings.ReplaceAll(policyFile, `match: {tree: "named-*", container: {name: "e2e-named-*"}}
    allow: {level: shared`, `match: {tree: "named-*", container: {name: "e2e-named-*"}}
    allow: {level: isolated`)})
	h.login("work", false)
	ctx := context.Background()
	c := h.holder("named-1", dockertest.RunConfig{Name: "e2e-named-7"})
	docks := func(args ...string) {
		t.Helper()
		if out, err := docker.Docker(ctx, args...).CombinedOutput(); err != nil {
			t.Fatalf("docker %q: %v: %s", args, err, out)
		}
	}
	if _, ok := reads(c); !ok {
		t.Fatalf("before: %s", h.lastEvent(audit.ActionRead, "named-1").Reason)
	}
	docks("rename", "e2e-named-7", "e2e-other-7")
	await(t, "the new name counts", func() bool { _, ok := reads(c); return !ok })
	out, _ := reads(c)
	refused(t, h, "named-1", out, 1, "not covered by policy")
	docks("rename", "e2e-other-7", "e2e-named-7")
	await(t, "the old name counts", func() bool { _, ok := reads(c); return ok })
	for range 3 {
		docks("restart", "--time=0", c.ID)
		if _, ok := reads(c); !ok {
			t.Errorf("after a restart: %s", h.lastEvent(audit.ActionRead, "named-1").Reason)
		}
	}
	// dockerd itself is restarted while the container runs on.
	if err := docker.Halt(ctx); err != nil {
		t.Fatal(err)
	}
	if err := docker.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "reads with the runtime back", func() bool { _, ok := reads(c); return ok })
	if e := h.lastEvent(audit.ActionRead, "named-1"); e.Container != c.ID || e.Name != "e2e-named-7" {
		t.Errorf("record: %+v", e)
	}
}

// An ephemeral tree's files are there while one of its containers runs, over a crash too, and for none that comes after.
func TestEphemeralState(t *testing.T) {
	h := newHost(t, hostOptions{policy: `version: 1
rules:
  - {name: scratch, match: {tree: "scratch-*"}, allow: {level: shared, account: default, state: ephemeral}}
  - {name: kept, match: {container: {}}, allow: {level: shared, account: default}}
`})
	h.login("default", false)
	ctx := context.Background()
	const write, list = "echo secret >/claude/history.jsonl; mkdir -p /claude/projects/a; cat /claude/history.jsonl", "cd /claude; find . | sort; cat history.jsonl 2>/dev/null"
	sh := func(c *dockertest.Container, script string) string {
		out, _, _ := c.Exec(ctx, "root", "sh", "-c", script)
		return out
	}
	one, two := h.holder("scratch-1", dockertest.RunConfig{}), h.holder("scratch-1", dockertest.RunConfig{})
	if out := sh(one, write); out != "secret\n" {
		t.Fatalf("write: %q", out)
	}
	if out := sh(two, "cat /claude/history.jsonl"); out != "secret\n" {
		t.Errorf("the other container reads %q", out)
	}
	one.Remove()
	h.crash()
	time.Sleep(3 * time.Second) // longer than it takes to notice
	if out := sh(two, "cat /claude/history.jsonl"); out != "secret\n" {
		t.Errorf("after the first container's end and a crash the second reads %q", out)
	}
	if _, ok := reads(two); !ok {
		t.Errorf("its credential: %s", h.lastEvent(audit.ActionRead, "scratch-1").Reason)
	}
	two.Remove()
	dir := filepath.Join(h.dir, "run/ephemeral/scratch-1")
	await(t, "its files are gone", func() bool {
		left, err := os.ReadDir(dir)
		return err == nil && len(left) == 1 && left[0].Name() == ".claude.json"
	})
	three := h.holder("scratch-1", dockertest.RunConfig{})
	if out := sh(three, list); out != ".\n./.claude.json\n./.credentials.json\n" {
		t.Errorf("the next container finds %q", out)
	}
	if out := sh(three, write); out != "secret\n" {
		t.Errorf("it writes: %q", out)
	}
	// A tree that is not ephemeral keeps its files, and the other never was among them.
	four := h.holder("kept", dockertest.RunConfig{})
	sh(four, write)
	four.Remove()
	h.stop()
	if _, err := os.Stat(filepath.Dir(dir)); !os.IsNotExist(err) {
		t.Errorf("after unmount: %v", err)
	}
	if kept, err := os.ReadDir(filepath.Join(h.dir, "state/trees")); err != nil || len(kept) != 1 || kept[0].Name() != "kept" {
		t.Errorf("state: %v, %v", kept, err)
	}
	if b, err := os.ReadFile(filepath.Join(h.dir, "state/trees/kept/history.jsonl")); string(b) != "secret\n" {
		t.Errorf("kept: %q, %v", b, err)
	}
}
