//go:build e2e

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// The same journey with each kind of key slot: login, read by the real client, rotation, restart of the daemon, read.
func TestVaultSlots(t *testing.T) {
	t.Run("kernel", func(t *testing.T) { journey(t, hostOptions{args: []string{"--vault", "kernel"}}, "kernel") })
	t.Run("passphrase", func(t *testing.T) {
		o := hostOptions{args: []string{"--vault", "passphrase"}}
		o.prepare = func(h *host) {
			h.env = append(h.env, "CLAUDEFS_PASSPHRASE_FILE="+h.write("passphrase", "correct horse battery staple\n"))
		}
		journey(t, o, "passphrase")
	})
	t.Run("keyring", func(t *testing.T) {
		// auto has to find the keyring by itself.
		journey(t, hostOptions{env: privateKeyring(t)}, "keyring")
	})
}

func journey(t *testing.T, o hostOptions, backend string) {
	t.Helper()
	o.policy = "isolated"
	h := newHost(t, o)
	if got := h.status().Vault.Backends; len(got) != 1 || got[0] != backend {
		t.Fatalf("vault key is in %v, want %s", got, backend)
	}
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("web", false)
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	for _, text := range []string{"first", "after rotation"} {
		if r := b.prompt(text); r.ExitCode != 0 {
			t.Errorf("%s: exit %d: %s %s", text, r.ExitCode, r.Text, r.Stderr)
		}
		if out, code := h.run("refresh", "--account", "web", "--force"); code != 0 {
			t.Fatalf("refresh: exit %d: %s", code, out)
		}
	}
	b.Remove()
	h.stop()
	h.start("--policy", "isolated")
	b = a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	if r := b.prompt("after restart"); r.ExitCode != 0 {
		t.Errorf("after restart: exit %d: %s %s", r.ExitCode, r.Text, r.Stderr)
	}
	if e := h.lastEvent(audit.ActionRead, "web"); e.Generation != 3 {
		t.Errorf("after restart the reader got generation %d, want 3", e.Generation)
	}
	if out, code := h.run("audit", "verify"); code != 0 {
		t.Errorf("audit verify: exit %d: %s", code, out)
	}
	checkQuiet(t, h, a)
}

// privateKeyring starts a D-Bus and an unlocked gnome-keyring of the test's own and returns their environment.
func privateKeyring(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	bus := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address=1", "--address=unix:path="+filepath.Join(dir, "bus"))
	out, err := bus.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Process.Kill(); _ = bus.Wait() })
	buf := make([]byte, 512)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatalf("dbus-daemon: %v", err)
	}
	env := []string{"DBUS_SESSION_BUS_ADDRESS=" + strings.TrimSpace(string(buf[:n])), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "XDG_DATA_HOME=" + dir}
	// In the foreground, so that it is ours to end by its pid.
	keyring := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	keyring.Env = append(os.Environ(), env...)
	keyring.Stdin = strings.NewReader("password")
	var text bytes.Buffer
	keyring.Stdout, keyring.Stderr = &text, &text
	if err := keyring.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyring.Process.Signal(syscall.SIGTERM); _ = keyring.Wait() })
	await(t, "the keyring's name on the bus", func() bool {
		c := exec.Command("dbus-send", "--session", "--dest=org.freedesktop.DBus", "--print-reply", "/org/freedesktop/DBus",
			"org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets")
		c.Env = append(os.Environ(), env...)
		b, _ := c.Output()
		return strings.Contains(string(b), "true")
	})
	return env
}
