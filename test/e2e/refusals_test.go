//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// cat reads the credential of a tree mounted at /claude.
var cat = []string{"cat", "/claude/.credentials.json"}

// refused fails unless the read was refused and the audit log gives the reason.
func refused(t *testing.T, h *host, tree, out string, code int, reason string) {
	t.Helper()
	if code == 0 || strings.Contains(out, "accessToken") {
		t.Errorf("it was read: exit %d", code)
	}
	e := h.lastEvent(audit.ActionRead, tree)
	if e.Outcome != audit.Denied || !strings.Contains(e.Reason, reason) {
		t.Errorf("audit says %s %q, want denied with %q", e.Outcome, e.Reason, reason)
	}
}

// turnedAway fails unless the audit log says that somebody was not let into the tree.
func turnedAway(t *testing.T, h *host, tree, reason string) {
	t.Helper()
	for _, e := range h.events() {
		if e.Action == audit.ActionEnter && e.Outcome == audit.Denied && e.Tree == tree && strings.Contains(e.Reason, reason) {
			return
		}
	}
	t.Errorf("no record of %s for tree %s", reason, tree)
}

// Everything that is not the container with the tree is refused, and audited with the true reason.
func TestRefusals(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	victim := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("victim")}})
	ctx := context.Background()
	allowed := func() {
		t.Helper()
		if out, errText, code := victim.Exec(ctx, "root", cat...); code != 0 || !strings.Contains(out, "accessToken") {
			t.Errorf("the victim itself: exit %d %s", code, errText)
		}
	}
	allowed()
	t.Run("host root shell", func(t *testing.T) {
		_, err := os.ReadFile(h.path("victim", ".credentials.json"))
		refused(t, h, "victim", "", boolCode(err), "no rule names this host process")
	})
	t.Run("host root in the container's namespaces", func(t *testing.T) {
		path := filepath.Join("/proc", itoa(victim.Pid()), "root/claude/.credentials.json")
		_, err := os.ReadFile(path)
		refused(t, h, "victim", "", boolCode(err), "no rule names this host process")
	})
	t.Run("docker cp", func(t *testing.T) {
		out, err := docker.Docker(ctx, "cp", victim.ID+":/claude/.credentials.json", "-").CombinedOutput()
		t.Logf("docker cp: %v, %d bytes: %.300q", err, len(out), out)
		// The client may end with 0 although the daemon broke the stream off: what counts is what came out.
		refused(t, h, "victim", string(out), 1, "no rule names this host process")
	})
	t.Run("whole mount", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Volumes: []string{h.mnt + ":/all"}})
		out, _, code := c.Exec(ctx, "root", "sh", "-c", "ls /all; cat /all/victim/.credentials.json /all/victim/.claude.json")
		if code == 0 || strings.Contains(out, "victim") || strings.Contains(out, "accessToken") {
			t.Errorf("a container with the whole mount got %q", out)
		}
		turnedAway(t, h, "victim", "holds the whole mount")
	})
	t.Run("a directory above the mount", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Volumes: []string{h.dir + ":/hostrun"}})
		there := "/hostrun/" + filepath.Base(h.mnt)
		out, _, code := c.Exec(ctx, "root", "sh", "-c", "ls "+there+"; cat "+there+"/victim/.credentials.json")
		if code == 0 || strings.Contains(out, "victim") || strings.Contains(out, "accessToken") {
			t.Errorf("got %q", out)
		}
		turnedAway(t, h, "victim", "holds the whole mount")
	})
	t.Run("ordinary user of the host", func(t *testing.T) {
		if out, err := asUser(1000, "cat", h.path("victim", ".credentials.json")); err == nil || strings.Contains(out, "accessToken") {
			t.Errorf("read: %s", out)
		}
		turnedAway(t, h, "victim", "no rule names this host process")
	})
	t.Run("whole mount and a tree", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Volumes: []string{h.mnt + ":/all"}, Mounts: []string{h.tree("other")}})
		out, _, code := c.Exec(ctx, "root", cat...)
		refused(t, h, "other", out, code, "whole mount")
	})
	t.Run("pid namespace of the victim", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Args: []string{"--pid=container:" + victim.ID}})
		out, _, code := c.Exec(ctx, "root", "cat", "/proc/1/root/claude/.credentials.json")
		if code == 0 || strings.Contains(out, "accessToken") {
			t.Errorf("read through /proc/1/root: %q", out)
		}
	})
	t.Run("pid namespace of the victim with ptrace", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.RunConfig{Image: image, CapAdd: []string{"SYS_PTRACE"}, Args: []string{"--pid=container:" + victim.ID}})
		out, _, code := c.Exec(ctx, "root", "cat", "/proc/1/root/claude/.credentials.json")
		refused(t, h, "victim", out, code, "mount table does not hold this tree")
	})
	t.Run("forged cgroup", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.Attacker(dockertest.RunConfig{Image: image, Mounts: []string{h.tree("evil")}}))
		out, _, code := c.Exec(ctx, "root", dockertest.AttackArgv(dockertest.AttackForge, victim.ID, cat...)...)
		if code == dockertest.AttackFailed {
			t.Fatalf("the attack did not move the process: %s", out)
		}
		refused(t, h, "evil", out, code, "")
		if e := h.lastEvent(audit.ActionRead, "evil"); !strings.Contains(e.Reason, "pid namespace") {
			t.Errorf("audit says %q", e.Reason)
		}
	})
	t.Run("victim's id below its own cgroup", func(t *testing.T) {
		c := docker.RunContainer(t, dockertest.Attacker(dockertest.RunConfig{Image: image, Mounts: []string{h.tree("nest")}}))
		out, _, code := c.Exec(ctx, "root", dockertest.AttackArgv(dockertest.AttackNest, victim.ID, cat...)...)
		if code == dockertest.AttackFailed {
			t.Fatalf("the attack did not move the process: %s", out)
		}
		// It stays what it is: its own container, which may read its own tree.
		if e := h.lastEvent(audit.ActionRead, "nest"); e.Container != c.ID {
			t.Errorf("audit names container %.12s, want the attacker's own %.12s", e.Container, c.ID)
		}
	})
	allowed()
}

// An isolated tree serves one running container, and none that could become another one.
func TestIsolatedRefusals(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	ctx := context.Background()
	first := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	if _, errText, code := first.Exec(ctx, "root", cat...); code != 0 {
		t.Fatalf("first container: %s", errText)
	}
	second := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	out, _, code := second.Exec(ctx, "root", cat...)
	refused(t, h, "web", out, code, "isolated tree belongs to container")
	first.Remove()
	await(t, "the second container's turn", func() bool {
		_, _, code := second.Exec(ctx, "root", cat...)
		return code == 0
	})
	strong := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("strong")}, CapAdd: []string{"SYS_ADMIN"}})
	out, _, code = strong.Exec(ctx, "root", cat...)
	refused(t, h, "strong", out, code, "could become another one: SYS_ADMIN")
	shed(t, strong.Pids())
	out, code = enterNamespaces(t, strong.Pid(), cat...)
	// By its pid namespace it is known for what it is.
	refused(t, h, "strong", out, code, "could become another one: SYS_ADMIN")
	stranger := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("nobody")}})
	out, _, code = stranger.Exec(ctx, "root", cat...)
	refused(t, h, "nobody", out, code, `account "nobody" is missing`)
}

// A tree of a project is refused to a container of another one, also when its image claims the project.
func TestProjectRefusals(t *testing.T) {
	h := newHost(t, hostOptions{policy: "project"})
	h.login("shop", false)
	const label = "com.docker.compose.project"
	claimed := dockertest.Image{Name: "claudefs-e2e:claims", Labels: map[string]string{label: "shop"}}
	if err := docker.BuildImage(context.Background(), claimed); err != nil {
		t.Fatal(err)
	}
	for _, c := range []dockertest.RunConfig{
		{Image: image},
		{Image: image, Labels: map[string]string{label: "other"}},
		{Image: claimed.Name},
	} {
		c.Mounts = []string{h.tree("shop")}
		out, _, code := docker.RunContainer(t, c).Exec(context.Background(), "root", cat...)
		refused(t, h, "shop", out, code, "not the tree's name")
	}
	mine := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("shop")}, Labels: map[string]string{label: "shop"}})
	if out, errText, code := mine.Exec(context.Background(), "root", cat...); code != 0 || !strings.Contains(out, "accessToken") {
		t.Errorf("a container of the project: exit %d %s", code, errText)
	}
}

// A runtime that is down denies what needs it, and hangs nothing.
func TestRuntimeDown(t *testing.T) {
	h := newHost(t, hostOptions{policy: "project"})
	h.login("shop", false)
	ctx := context.Background()
	c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("shop")}, Labels: map[string]string{"com.docker.compose.project": "shop"}})
	if _, errText, code := c.Exec(ctx, "root", cat...); code != 0 {
		t.Fatalf("before: %s", errText)
	}
	pid := c.Pid()
	if err := docker.Halt(ctx); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	out, code := enter(t, pid, cat...)
	refused(t, h, "shop", out, code, "container")
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a read with the runtime down took %v", took)
	}
	if err := docker.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	await(t, "reads with the runtime back", func() bool {
		_, _, code := c.Exec(ctx, "root", cat...)
		return code == 0
	})
}

// For each level: two containers read what is theirs, and a third that has both their trees mounted gets what its level
// gives, no more. Nobody lists what is not his.
func TestLevelsKeepApart(t *testing.T) {
	for level, want := range map[string]struct {
		accounts [2]string // of trees a and b
		refused  string    // why the third one does not get b; "" when it does
	}{
		"shared":   {[2]string{"default", "default"}, ""},
		"project":  {[2]string{"a", "b"}, `container's project is "a", not the tree's name`},
		"isolated": {[2]string{"a", "b"}, "isolated tree belongs to container"},
	} {
		t.Run(level, func(t *testing.T) {
			h := newHost(t, hostOptions{policy: level})
			for _, account := range []string{"default", "a", "b"} {
				h.login(account, false)
			}
			for i, tree := range []string{"a", "b"} {
				c := h.holder(tree, dockertest.RunConfig{Labels: map[string]string{"com.docker.compose.project": tree}})
				if _, ok := reads(c); !ok {
					t.Errorf("tree %s: %s", tree, h.lastEvent(audit.ActionRead, tree).Reason)
				}
				if e := h.lastEvent(audit.ActionRead, tree); e.Account != want.accounts[i] || e.Container != c.ID {
					t.Errorf("tree %s: account %q for container %.12s", tree, e.Account, e.Container)
				}
			}
			third := docker.RunContainer(t, dockertest.RunConfig{
				Image: image, Labels: map[string]string{"com.docker.compose.project": "a"},
				Mounts: []string{h.tree("b"), "type=bind,src=" + h.path("a") + ",dst=/a"},
			})
			out, ok := reads(third)
			switch {
			case want.refused != "":
				refused(t, h, "b", out, 1, want.refused)
			case !ok:
				t.Errorf("the third container: %s", h.lastEvent(audit.ActionRead, "b").Reason)
			}
			for _, uid := range []uint32{1000, 65534} {
				if out, err := asUser(uid, "ls", h.mnt); err != nil || out != "" {
					t.Errorf("uid %d lists %q, %v", uid, out, err)
				}
			}
		})
	}
}
