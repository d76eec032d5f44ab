//go:build e2e

package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// buildAs builds claudefs with another value of a variable.
func buildAs(t *testing.T, variable, value string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "claudefs-"+value)
	cmd := exec.CommandContext(context.Background(), "go", "build", "-o", out, "-ldflags", "-X github.com/claudefs/claudefs/"+variable+"="+value, "./cmd/claudefs")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, b)
	}
	return out
}

// dropped is a command of root's without any capability.
func dropped(argv ...string) *exec.Cmd {
	return exec.Command("setpriv", append([]string{"--bounding-set=-all", "--inh-caps=-all"}, argv...)...)
}

// Upgrades and reloads under the mixed load: to another program and back, and to the same one by SIGHUP. UPGRADES says
// how many of each.
func TestUpgradesUnderLoad(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", server: rotating})
	h.login("default", false)
	other := buildAs(t, "internal/version.Version", "v99.0.0")
	n := times(t, "UPGRADES", 50)
	h.underLoad(func() {
		for i := range n {
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			binary, want := other, "v99.0.0"
			if i%2 == 1 {
				binary, want = claudefs, "dev"
			}
			if out, code := h.run("upgrade", binary); code != 0 || !strings.Contains(out, "version "+want+" serves") {
				t.Errorf("upgrade %d: exit %d: %s", i, code, out)
			}
		}
		for range n {
			before := h.status().Keeper.Servers
			if err := syscall.Kill(h.keeperState().PID, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(20 * time.Second); h.status().Keeper.Servers == before; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("SIGHUP has no effect\n%s", h.log.String())
				}
			}
		}
	})
	if s := h.keeperState(); s.Restarts > 0 {
		t.Errorf("the keeper had to start the server %d times: %s", s.Restarts, s.LastEnd)
	}
	if h.tokens.Lost() > 0 {
		t.Error("the login is lost")
	}
	t.Logf("%d upgrades, %d reloads, %d rotations", n, n, h.tokens.Grants())
}

// What cannot serve in the running server's place is refused before anything changes.
func TestUpgradeRefused(t *testing.T) {
	const rules = "version: 1\nrules:\n  - name: all\n    match: {}\n    allow: {level: shared, account: default}\n"
	h := newHost(t, hostOptions{policy: rules})
	h.login("default", false)
	r := h.reading("web")
	before := h.status()
	future := buildAs(t, "internal/ledger.version", "99")
	config, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, binary, want string
		prepare, restore   func()
	}{
		{name: "no program", binary: "/nonexistent", want: "no such file"},
		{name: "another program", binary: "/bin/false", want: "exit status 1"},
		{name: "another format", binary: future, want: "another format version"},
		{
			name: "bad policy", binary: claudefs, want: "policy.yaml",
			prepare: func() { h.write("policy.yaml", "version: 1\nrules: nonsense\n") },
			restore: func() { h.write("policy.yaml", rules) },
		},
		{
			name: "bad configuration", binary: claudefs, want: "config.yaml",
			prepare: func() { h.write("config.yaml", string(config)+"nonsense: 1\n") },
			restore: func() { h.write("config.yaml", string(config)) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.prepare != nil {
				c.prepare()
			}
			out, code := h.askUpgrade(c.binary)
			if c.restore != nil {
				c.restore()
			}
			if code != 1 || !strings.Contains(out, c.want) {
				t.Errorf("exit %d: %s", code, out)
			}
			s := h.status()
			if s.PID != before.PID || s.Since != before.Since {
				t.Error("the running server did not go on")
			}
			if s.Keeper.HandOverError == "" {
				t.Error("status does not say so")
			}
		})
	}
	r.end(t)
}

// askUpgrade asks for an upgrade past the command's own reading of the configuration.
func (h *host) askUpgrade(binary string) (string, int) {
	good := filepath.Join(h.dir, "asking.yaml")
	if b, err := os.ReadFile(h.config); err == nil {
		text, _, _ := strings.Cut(string(b), "nonsense")
		_ = os.WriteFile(good, []byte(text), 0o600)
	}
	return h.run("--config", good, "upgrade", binary)
}

// A program of a later format refuses to be followed by this one, and goes on: a downgrade does no harm.
func TestDowngradeRefused(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", prepare: func(h *host) { h.program = buildAs(t, "internal/ledger.version", "99") }})
	h.login("default", false)
	r := h.reading("web")
	before := h.status()
	out, code := h.run("upgrade", claudefs)
	if code != 1 || !strings.Contains(out, "another format version") {
		t.Errorf("exit %d: %s", code, out)
	}
	if s := h.status(); s.Since != before.Since {
		t.Error("the running server did not go on")
	}
	r.end(t)
}

// A program that is taken from the disk after an upgrade to it goes on serving, across a crash too.
func TestProgramRemoved(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	r := h.reading("web")
	// The keeper holds the file itself.
	copied := buildAs(t, "internal/version.Version", "v99.0.1")
	if out, code := h.run("upgrade", copied); code != 0 {
		t.Fatalf("upgrade: exit %d: %s", code, out)
	}
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	h.crash()
	if v := h.status().Version; v != "v99.0.1" {
		t.Errorf("version %s serves after a crash", v)
	}
	r.end(t)
}
