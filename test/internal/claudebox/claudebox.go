// Package claudebox puts the real client and the double together for tests
// without containers: a sandbox with only loopback, the double listening in it,
// and a fresh config directory.
package claudebox

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
)

// Box is one sandbox with a double and a config directory.
type Box struct {
	// Double is the server; its verdict is that of Accept and Revoke.
	Double *claudeapi.Double
	// Sandbox is where the client runs.
	Sandbox *claudeclient.Sandbox
	// ConfigDir is the client's CLAUDE_CONFIG_DIR, WorkDir its working directory.
	ConfigDir, WorkDir string

	t      testing.TB
	client string
	env    []string
	mu     sync.Mutex
	tokens map[string]claudeapi.Verdict
}

// New makes a Box which ends with the test. What it needs and does not find
// (root, npm, namespaces) fails the test.
func New(t testing.TB) *Box {
	t.Helper()
	cache, err := claudeclient.CacheDir()
	check(t, err)
	b := &Box{t: t, ConfigDir: t.TempDir(), WorkDir: t.TempDir(), tokens: map[string]claudeapi.Verdict{}}
	b.client, err = claudeclient.Install(t.Context(), cache)
	check(t, err)
	b.Double, err = claudeapi.New(claudeapi.Config{Verdict: b.verdict})
	check(t, err)
	dir := t.TempDir()
	hosts, ca := filepath.Join(dir, "hosts"), filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(hosts, []byte(b.Double.HostsFile()), 0o644))
	check(t, os.WriteFile(ca, b.Double.CAPEM(), 0o644))
	check(t, os.WriteFile(filepath.Join(b.ConfigDir, ".claude.json"), claudeclient.Quiet(b.WorkDir), 0o600))
	b.Sandbox, err = claudeclient.NewSandbox(hosts)
	check(t, err)
	t.Cleanup(func() { check(t, b.Sandbox.Close()) })
	_, err = b.Double.ListenInNetns(b.Sandbox.PID(), "box")
	check(t, err)
	t.Cleanup(func() { check(t, b.Double.Close()) })
	b.env = append(claudeclient.Env(ca), "PATH=/usr/bin:/bin",
		"HOME="+t.TempDir(), "CLAUDE_CONFIG_DIR="+b.ConfigDir)
	return b
}

func (b *Box) verdict(token string) claudeapi.Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tokens[token]
}

// Accept makes the double serve the token.
func (b *Box) Accept(token string) { b.set(token, claudeapi.Valid) }

// Revoke makes the double refuse the token.
func (b *Box) Revoke(token string) { b.set(token, claudeapi.Revoked) }

func (b *Box) set(token string, v claudeapi.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens[token] = v
}

// Rotate puts the token into the config directory's .credentials.json.
func (b *Box) Rotate(token string) {
	b.t.Helper()
	check(b.t, claudeclient.WriteCredentials(b.ConfigDir, token))
}

// Command prepares `claude` with the given arguments inside the sandbox.
func (b *Box) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := b.Sandbox.Command(ctx, b.WorkDir, b.client, args...)
	cmd.Env = b.env
	return cmd
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
