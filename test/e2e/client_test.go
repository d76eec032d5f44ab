//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// api is the double of the API for one test, and the files that make a container's client use it.
type api struct {
	t testing.TB
	*claudeapi.Double
	hosts, ca string
}

func newAPI(t testing.TB, cfg claudeapi.Config) *api {
	t.Helper()
	d, err := claudeapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	dir := t.TempDir()
	a := &api{t: t, Double: d, hosts: filepath.Join(dir, "hosts"), ca: filepath.Join(dir, "ca.pem")}
	for path, text := range map[string]string{a.hosts: d.HostsFile(), a.ca: string(d.CAPEM())} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// verdict judges tokens as the authorization server does.
func verdict(active func(string) bool) func(string) claudeapi.Verdict {
	return func(token string) claudeapi.Verdict {
		if active(token) {
			return claudeapi.Valid
		}
		return claudeapi.Revoked
	}
}

// box is a container with the real client in it, whose network holds nothing but the double.
type box struct {
	*dockertest.Container
	api  *api
	user string
}

// run starts a container with the client, the double's certificate and host names, and the given mounts.
func (a *api) run(c dockertest.RunConfig) *box {
	a.t.Helper()
	c.Image = image
	c.Volumes = append(c.Volumes, claude+":/usr/bin/claude:ro", a.hosts+":/etc/hosts:ro", a.ca+":/ca.pem:ro")
	ctr := docker.RunContainer(a.t, c)
	l, err := a.ListenInNetns(ctr.Pid(), ctr.ID[:12])
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = l.Close() })
	user := c.User
	if user == "" {
		user = "root"
	}
	return &box{Container: ctr, api: a, user: user}
}

// claude is a command that runs the client in the container.
func (b *box) claude(ctx context.Context, args ...string) *exec.Cmd {
	argv := []string{"exec", "-i", "-u", b.user, "-e", "CLAUDE_CONFIG_DIR=/claude", "-e", "HOME=/tmp", "-w", "/tmp"}
	for _, kv := range claudeclient.Env("/ca.pem") {
		argv = append(argv, "-e", kv)
	}
	return docker.Docker(ctx, append(append(argv, b.ID, "claude"), args...)...)
}

// prompt runs `claude -p` once.
func (b *box) prompt(text string) claudeclient.Result {
	b.api.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	r, err := claudeclient.Once(ctx, b.claude(ctx, claudeclient.OnceArgs(text)...))
	if err != nil {
		b.api.t.Fatal(err)
	}
	return r
}

// session starts a long-lived client.
func (b *box) session() *claudeclient.Session {
	b.api.t.Helper()
	s, err := claudeclient.Start(b.claude(context.Background(), claudeclient.SessionArgs()...))
	if err != nil {
		b.api.t.Fatal(err)
	}
	b.api.t.Cleanup(func() { _ = s.Close() })
	return s
}

// tree is the mount of one of the host's trees at the place where the client looks.
func (h *host) tree(name string) string {
	return "type=bind,src=" + h.path(name) + ",dst=/claude"
}
