package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudefs/claudefs/vault"
)

// busConfig is a session bus without service files: nothing is started on it by itself.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>`

// bus is a private session bus, which the environment of the test names.
type bus struct {
	dir  string
	addr string
}

func startBus(t *testing.T) *bus {
	t.Helper()
	for _, program := range []string{"dbus-daemon", "dbus-send", "gnome-keyring-daemon"} {
		_, err := exec.LookPath(program)
		need(t, err, program)
	}
	dir, err := os.MkdirTemp("", "claudefs-bus-") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &bus{dir: dir, addr: "unix:path=" + dir + "/bus"}
	conf := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, busConfig, dir+"/bus"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", b.addr)
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"} {
		t.Setenv(name, dir)
	}
	t.Setenv("DISPLAY", "")
	run(t, exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--config-file="+conf))
	until(t, func() bool { _, err := os.Stat(dir + "/bus"); return err == nil })
	return b
}

// startKeyring starts gnome-keyring-daemon on the bus; with a password its login keyring is unlocked.
func (b *bus) startKeyring(t *testing.T, password string) *exec.Cmd {
	t.Helper()
	args := []string{"--foreground", "--components=secrets", "--control-directory=" + b.dir + "/control"}
	if password != "" {
		args = append(args, "--unlock")
	}
	cmd := exec.Command("gnome-keyring-daemon", args...)
	cmd.Stdin = strings.NewReader(password)
	run(t, cmd)
	until(t, b.served)
	return cmd
}

// served reports whether a Secret Service is on the bus.
func (b *bus) served() bool {
	return exec.Command("dbus-send", "--bus="+b.addr, "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus",
		"org.freedesktop.DBus.GetNameOwner", "string:org.freedesktop.secrets").Run() == nil
}

// stop ends the daemon and waits until it is off the bus.
func (b *bus) stop(t *testing.T, daemon *exec.Cmd) {
	t.Helper()
	_ = daemon.Process.Kill()
	until(t, func() bool { return !b.served() })
}

// run starts a daemon that ends with the test.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the test is killed too
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
}

// until waits for something that another process does.
func until(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come about in 10 s")
		}
	}
}

func keyringConfig(t *testing.T) vault.Config {
	return vault.Config{Dir: t.TempDir() + "/vault", Helper: []string{os.Args[0], "vault-helper"}}
}

func TestKeyringSlot(t *testing.T) {
	b := startBus(t)
	daemon := b.startKeyring(t, "pw")
	cfg := keyringConfig(t)
	v, notice, err := vault.Create(t.Context(), cfg, vault.BackendAuto)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Backends()[0]; got != vault.BackendKeyring {
		t.Fatalf("auto with a Secret Service: got %s (%s), want keyring", got, notice)
	}
	store(t, v, credential("work"), vault.Version{})

	unlock := func() error {
		v, err := vault.Open(cfg)
		if err != nil {
			return err
		}
		if err := v.Unlock(t.Context()); err != nil {
			return err
		}
		_, _, err = v.Load("work")
		return err
	}
	if err := unlock(); err != nil {
		t.Errorf("unlocked: %v", err)
	}

	b.stop(t, daemon)
	if err := unlock(); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("no service: got %v, want ErrUnavailable", err)
	}

	daemon = b.startKeyring(t, "") // its login keyring stays locked
	if err := unlock(); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("locked: got %v, want ErrLocked", err)
	}
	if _, _, err := vault.Create(t.Context(), cfg, vault.BackendAuto); !errors.Is(err, vault.ErrExists) {
		t.Errorf("create over it: got %v, want ErrExists", err)
	}
	if _, _, err := vault.Create(t.Context(), keyringConfig(t), vault.BackendKeyring); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("create in a locked keyring: got %v, want ErrLocked", err)
	}

	b.stop(t, daemon)
	b.startKeyring(t, "pw")
	if err := unlock(); err != nil {
		t.Errorf("unlocked again: %v", err)
	}
}

// An item that somebody removed from the keyring is not a reason to start anew.
func TestKeyringSlotItemGone(t *testing.T) {
	b := startBus(t)
	daemon := b.startKeyring(t, "pw")
	cfg := keyringConfig(t)
	v, _, err := vault.Create(t.Context(), cfg, vault.BackendKeyring)
	if err != nil {
		t.Fatal(err)
	}
	b.stop(t, daemon)
	if err := os.RemoveAll(filepath.Join(b.dir, "keyrings")); err != nil {
		t.Fatal(err)
	}
	b.startKeyring(t, "pw")
	v.Lock()
	if err := v.Unlock(t.Context()); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

// A stopped daemon answers nothing. The wait for it is bounded, and leaves no process behind.
func TestKeyringSlotHangs(t *testing.T) {
	b := startBus(t)
	daemon := b.startKeyring(t, "pw")
	v, _, err := vault.Create(t.Context(), keyringConfig(t), vault.BackendKeyring)
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	v.Lock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	if err := v.Unlock(ctx); !errors.Is(err, vault.ErrTimeout) {
		t.Errorf("got %v, want ErrTimeout", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("unlock took %v", took)
	}

	cancelled, stop := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, stop)
	if err := v.Unlock(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, vault.ErrTimeout) {
		t.Errorf("cancelled: got %v, want Canceled", err)
	}

	// auto does not wait for it longer than a probe, and does not take it.
	start = time.Now()
	made, notice, err := vault.Create(t.Context(), keyringConfig(t), vault.BackendAuto)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeKernelKey(made.ID()) })
	if got := made.Backends()[0]; got != vault.BackendKernel || !strings.Contains(notice, "reboot") {
		t.Errorf("auto: got %s with %q, want kernel", got, notice)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("auto took %v", took)
	}
	if err := daemon.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := v.Unlock(t.Context()); err != nil {
		t.Errorf("once it goes on: %v", err)
	}
}

// Without a bus nothing is started: go-keyring alone would launch a bus that outlives us.
func TestKeyringSlotWithoutBus(t *testing.T) {
	if _, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid())); err == nil {
		t.Skip("this user has a session bus")
	}
	dir := t.TempDir()
	launched := filepath.Join(dir, "launched")
	script := "#!/bin/sh\ntouch " + launched + "\nexit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, addr := range []string{"", "autolaunch:"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", addr)
		_, _, err := vault.Create(t.Context(), keyringConfig(t), vault.BackendKeyring)
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("address %q: got %v, want ErrUnavailable", addr, err)
		}
	}
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+dir+"/none")
	if _, _, err := vault.Create(t.Context(), keyringConfig(t), vault.BackendKeyring); !errors.Is(err, vault.ErrUnavailable) {
		t.Errorf("dead bus: got %v, want ErrUnavailable", err)
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("dbus-launch was run")
	}
}

// Whatever becomes of the helper process, the answer is an error of the slot that quotes nothing the helper wrote.
func TestKeyringHelperFails(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+t.TempDir()+"/none")
	for name, helper := range map[string][]string{
		"killed":    {"/bin/sh", "-c", "kill -9 $$"},
		"exit 1":    {"/bin/false"},
		"missing":   {"/nonexistent/claudefs", "vault-helper"},
		"garbage":   {"/bin/echo", token},
		"no output": {"/bin/true"},
	} {
		cfg := keyringConfig(t)
		cfg.Helper = helper
		_, _, err := vault.Create(t.Context(), cfg, vault.BackendKeyring)
		if !errors.Is(err, vault.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", name, err)
		}
		if s := fmt.Sprint(err); leaks(s) != "" || strings.Contains(s, "%!") {
			t.Errorf("%s: got %q", name, s)
		}
	}
	cfg := keyringConfig(t)
	cfg.Helper = []string{"/bin/sleep", "1000"}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := vault.Create(ctx, cfg, vault.BackendKeyring); !errors.Is(err, vault.ErrTimeout) {
		t.Errorf("hangs: got %v, want ErrTimeout", err)
	}
}

func TestKeyringHelperRefusesGarbage(t *testing.T) {
	if testing.Short() {
		t.Skip("the helper makes this process undumpable")
	}
	if err := vault.RunKeyringHelper(strings.NewReader("{"), io.Discard); err == nil {
		t.Error("got no error")
	}
}
