//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// An ordinary user of the host makes namespaces of its own, in which it is root and in no container's cgroup, and
// tries to bind a tree there.
func TestHostUserInOwnNamespaces(t *testing.T) {
	for _, policy := range []string{"shared", "isolated"} {
		h := newHost(t, hostOptions{policy: policy, noDocker: true})
		h.login("default", false)
		h.login("web", false)
		const script = `n=$(mktemp -d); mount -t tmpfs none $n; mkdir $n/claude $n/bin; cp /bin/busybox $n/bin/ || cp /usr/bin/busybox $n/bin/
			mount --bind "$0/web" $n/claude; ls "$0" "$0/web"; cat $n/claude/.credentials.json "$0/web/.claude.json"
			chroot $n /bin/busybox cat /claude/.credentials.json`
		cmd := exec.Command("unshare", "-Urmpf", "sh", "-c", script, h.mnt)
		cmd.Env = append(os.Environ(), "TMPDIR=/tmp")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
		out, _ := cmd.CombinedOutput()
		if strings.Contains(string(out), "accessToken") || strings.Contains(string(out), "hasCompleted") {
			t.Errorf("policy %s: an ordinary user read the tree: %s", policy, out)
		}
		if !strings.Contains(string(out), "No such file") {
			t.Errorf("policy %s: the attack was not refused as it should be: %s", policy, out)
		}
	}
}

// A container that is made again gets its isolated tree at once: pid namespace numbers come again, processes do not.
func TestRecreatedContainer(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	for i := range 5 {
		c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
		if _, errText, code := c.Exec(context.Background(), "root", cat...); code != 0 {
			t.Errorf("container %d: %s: %s", i, errText, h.lastEvent(audit.ActionRead, "web").Reason)
		}
		c.Remove()
	}
}

// What a client has half-written, and the state of an isolated tree, is not for another container that also has the
// tree mounted.
func TestSecondContainerSeesNothing(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	ctx := context.Background()
	one := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	if _, errText, code := one.Exec(ctx, "root", "sh", "-c",
		"cat /claude/.credentials.json >/dev/null && echo fresh-login > /claude/.credentials.json.tmp.1 && echo history > /claude/history.jsonl"); code != 0 {
		t.Fatalf("first container: %s", errText)
	}
	two := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	out, _, code := two.Exec(ctx, "root", "sh", "-c",
		"cat /claude/.credentials.json.tmp.1; cat /claude/history.jsonl; rm /claude/.credentials.json.tmp.1 && echo removed; mv /claude/.credentials.json.tmp.1 /claude/.credentials.json && echo moved; ls /claude")
	if out != "" {
		t.Errorf("the second container got (exit %d) %q", code, out)
	}
	if out, _, _ := one.Exec(ctx, "root", "cat", "/claude/.credentials.json.tmp.1", "/claude/history.jsonl"); out != "fresh-login\nhistory\n" {
		t.Errorf("the first container reads %q", out)
	}
}

// A login that is made inside a tree becomes the tree's own account and replaces nobody else's.
func TestCaptureReplacesNobody(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("work", false) // the operator's; tree work uses account default
	planted := refreshtest.Login{AccessToken: "sk-ant-oat01-planted", RefreshToken: "sk-ant-ort01-planted", Scopes: []string{"user:inference"}}
	const file = `{"claudeAiOauth":{"accessToken":"sk-ant-oat01-planted","refreshToken":"sk-ant-ort01-planted","expiresAt":4000000000000,"scopes":["user:inference"]}}`
	c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("work")}})
	if _, errText, code := c.Exec(context.Background(), "root", "sh", "-c", "printf %s \"$0\" > /claude/.credentials.json", file); code != 0 {
		t.Fatalf("write: %s", errText)
	}
	for _, a := range h.status().Accounts {
		if a.Name == "work" && a.Generation != 1 || a.Name == "default" {
			t.Errorf("account %+v was changed by a login inside a tree", a)
		}
	}
	if e := h.lastEvent(audit.ActionCapture, "work"); e.Account != "work.captured" {
		t.Errorf("captured as %q", e.Account)
	}
	out, _, _ := c.Exec(context.Background(), "root", cat...)
	if access(out) != planted.AccessToken {
		t.Error("the tree itself does not work on the login that was made in it")
	}
}

// Root in a container that was given the daemon's runtime directory is not the daemon's operator.
func TestControlSocketFromContainer(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Volumes: []string{filepath.Join(h.dir, "run") + ":/run/claudefs", claudefs + ":/claudefs:ro"}})
	for _, args := range []string{"account list", "account remove web", "vault lock"} {
		out, errText, code := c.Exec(context.Background(), "root", "sh", "-c", "/claudefs "+args)
		if code == 0 || !strings.Contains(errText, "only the daemon's own user and root") {
			t.Errorf("%s: exit %d %s %s", args, code, out, errText)
		}
	}
	if s := h.status(); len(s.Accounts) != 1 || s.Vault.Locked {
		t.Errorf("status: %+v", s)
	}
}

// A nested namespace that ends does not end its container's claim on an isolated tree.
func TestClaimOutlivesNestedNamespace(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated", noDocker: true})
	h.login("web", false)
	ctx := context.Background()
	one := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}, CapAdd: []string{"SYS_ADMIN"}})
	if _, errText, code := one.Exec(ctx, "root", "busybox", "unshare", "-p", "-f", "cat", "/claude/.credentials.json"); code != 0 {
		t.Fatalf("read in a nested namespace: %s", errText)
	}
	two := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	out, _, code := two.Exec(ctx, "root", cat...)
	refused(t, h, "web", out, code, "isolated tree belongs to container")
}
