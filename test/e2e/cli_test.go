//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/moby/sys/mountinfo"

	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// The demo, as "make demo" runs it, with containers and with plain namespaces: it ends by itself with 0 and leaves
// nothing behind.
func TestDemo(t *testing.T) {
	for name, want := range map[string]string{"docker": "(Docker containers)", "namespaces": "(plain namespaces"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("bash", "test/demo.sh")
			cmd.Dir = "../.."
			dir := t.TempDir()
			cmd.Env = append(os.Environ(), "CLAUDEFS_DEMO_BINARY="+claudefs, "TMPDIR="+dir, "DOCKER_HOST=unix:///nonexistent.sock")
			if name == "docker" {
				cmd.Env = append(cmd.Env, "DOCKER_HOST="+docker.Socket())
			}
			b, err := cmd.CombinedOutput()
			out := string(b)
			if err != nil || !strings.Contains(out, want) || strings.Contains(out, "REAL") ||
				!strings.Contains(out, "both readers followed") || strings.Count(out, "[web] token #") < 3 {
				t.Errorf("demo: %v\n%s", err, out)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "claudefs-demo.*")); len(left) > 0 {
				t.Errorf("the demo left %v", left)
			}
		})
	}
}

// What docker-args prints starts a container that can read.
func TestDockerArgs(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	out, code := h.run("docker-args", "web")
	if code != 0 {
		t.Fatalf("docker-args: %s", out)
	}
	args := append([]string{"run", "--rm", "--network=none"}, strings.Fields(out)...)
	b, err := docker.Docker(context.Background(), append(args, image, "grep", "-c", "accessToken", "/root/.claude/.credentials.json")...).CombinedOutput()
	if err != nil || string(b) != "1\n" {
		t.Errorf("docker run with %q: %v %s", out, err, b)
	}
	// A tree that no policy gives, and a mount that is not there, start no container and make no directory.
	for _, src := range []string{h.path("-bad"), filepath.Join(h.dir, "nothing", "web")} {
		b, err := docker.Docker(context.Background(), "run", "--rm", "--network=none", "--mount", "type=bind,src="+src+",dst=/x", image, "true").CombinedOutput()
		if err == nil || !strings.Contains(string(b), "does not exist") {
			t.Errorf("mount of %s: %v %s", src, err, b)
		}
	}
}

// SIGTERM while containers are bound ends cleanly: nothing stays mounted, no socket, and the containers see an error
// instead of hanging.
func TestStopWithContainersBound(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	if _, errText, code := c.Exec(context.Background(), "root", "sh", "-c", "cat /claude/.credentials.json > /dev/null; cd /claude && (sleep 60 < .claude.json &)"); code != 0 {
		t.Fatal(errText)
	}
	h.stop()
	if mounted, err := mountinfo.Mounted(h.mnt); err != nil || mounted {
		t.Errorf("still mounted: %v %v", mounted, err)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "run", "control.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("control socket: %v", err)
	}
	_, errText, code := c.Exec(context.Background(), "root", cat...)
	if code == 0 || !strings.Contains(errText, "not connected") && !strings.Contains(errText, "aborted") {
		t.Errorf("in the container: exit %d %s", code, errText)
	}
	if _, code := h.run("status"); code != 7 {
		t.Errorf("status without daemon: exit %d, want 7", code)
	}
}

// A daemon that was killed leaves a dead mount; the next one repairs it, and "unmount" takes it away.
func TestKilledDaemon(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	h.login("web", false)
	kill := func() {
		t.Helper()
		h.killBoth()
		if _, err := os.Stat(h.mnt); err == nil {
			t.Error("the mount is not dead")
		}
	}
	kill()
	h.start("--policy", "isolated")
	c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	if _, errText, code := c.Exec(context.Background(), "root", cat...); code != 0 {
		t.Errorf("after the repair: %s", errText)
	}
	kill()
	if out, code := h.run("unmount", h.mnt); code != 0 {
		t.Errorf("unmount of a dead mount: exit %d %s", code, out)
	}
	if mounted, err := mountinfo.Mounted(h.mnt); err != nil || mounted {
		t.Errorf("still mounted: %v %v", mounted, err)
	}
}

// Commands without a daemon wait for each other: ten refreshes at once of an expired login are one grant.
func TestCommandsWithoutDaemon(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated", server: strict})
	h.stop()
	h.login("web", true)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if out, code := h.run("refresh", "--account", "web"); code != 0 {
				t.Errorf("refresh: exit %d %s", code, out)
			}
		})
	}
	wg.Wait()
	if got := h.tokens.Grants(); got != 1 || h.tokens.Lost() != 0 {
		t.Errorf("%d grants, %d logins lost", got, h.tokens.Lost())
	}
}

// "unmount" of another place than the daemon's own leaves the daemon alone.
func TestUnmountElsewhere(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	if out, code := h.run("unmount", t.TempDir()); code != 6 {
		t.Errorf("unmount elsewhere: exit %d %s", code, out)
	}
	if _, code := h.run("status"); code != 0 {
		t.Error("the daemon is gone")
	}
}

// The benchmark runs, in short; its figures mean something only when it runs alone and long ("make bench").
func TestBench(t *testing.T) {
	cmd := exec.Command("go", "run", "./test/bench", "-claudefs", claudefs, "-count", "160", "-rounds", "1", "-reads", "400")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "| claudefs |") != 2 || !strings.Contains(string(out), "1,001 trees") {
		t.Errorf("bench: %v\n%s", err, out)
	}
}
