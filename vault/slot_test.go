package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/vault"
)

func TestPassphraseSlot(t *testing.T) {
	_, dir := create(t)
	for _, tc := range []struct {
		name string
		ask  func(context.Context) (vault.Secret, error)
		want error
	}{
		{"right", ask(password), nil},
		{"wrong", ask(password + "!"), vault.ErrPassphrase},
		{"empty", ask(""), vault.ErrPassphrase},
		{"nobody to ask", nil, vault.ErrLocked},
		{"asking fails", func(context.Context) (vault.Secret, error) { return vault.Secret{}, os.ErrClosed }, vault.ErrLocked},
	} {
		cfg := config(dir)
		cfg.Passphrase = tc.ask
		v, err := vault.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Unlock(t.Context()); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		} else if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v quotes the passphrase", tc.name, err)
		}
		if got, want := v.Locked(), tc.want != nil; got != want {
			t.Errorf("%s: locked: got %t, want %t", tc.name, got, want)
		}
	}
}

func TestPassphraseSlotRefusedAtCreation(t *testing.T) {
	for name, change := range map[string]func(*vault.Config){
		"empty":               func(c *vault.Config) { c.Passphrase = ask("") },
		"nobody to ask":       func(c *vault.Config) { c.Passphrase = nil },
		"cost below 1":        func(c *vault.Config) { c.ScryptWorkFactor = -1 },
		"cost that age fears": func(c *vault.Config) { c.ScryptWorkFactor = 23 },
	} {
		cfg := config(t.TempDir())
		change(&cfg)
		_, _, err := vault.Create(t.Context(), cfg, vault.BackendPassphrase)
		if err == nil || name == "empty" && !errors.Is(err, vault.ErrPassphrase) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
		if _, err := vault.Open(cfg); !errors.Is(err, vault.ErrNoVault) {
			t.Errorf("%s: got %v, want ErrNoVault", name, err)
		}
	}
}

// A slot taken from another vault with the same passphrase opens nothing here.
func TestPassphraseSlotOfAnotherVault(t *testing.T) {
	_, dir := create(t)
	_, other := create(t)
	mine, theirs := readHeader(t, dir), readHeader(t, other)
	mine["slots"] = theirs["slots"]
	writeHeader(t, dir, mine)
	v, err := vault.Open(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Unlock(t.Context()); !errors.Is(err, vault.ErrCorrupt) || !v.Locked() {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

func TestLocked(t *testing.T) {
	v, dir := create(t)
	version := store(t, v, credential("work"), vault.Version{})
	before, err := v.Derive("surrogate")
	if err != nil {
		t.Fatal(err)
	}
	header, _ := os.ReadFile(filepath.Join(dir, "vault.json"))
	v.Lock()
	if !v.Locked() {
		t.Error("got an open vault")
	}
	if _, _, err := v.Load("work"); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("load: got %v, want ErrLocked", err)
	}
	if _, err := v.Store(credential("work"), version); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("store: got %v, want ErrLocked", err)
	}
	if _, err := v.Derive("x"); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("derive: got %v, want ErrLocked", err)
	}
	for _, b := range []vault.Backend{vault.BackendPassphrase, vault.BackendKernel, vault.BackendAuto} {
		if _, _, err := vault.Create(t.Context(), config(dir), b); !errors.Is(err, vault.ErrExists) {
			t.Errorf("create %s over it: got %v, want ErrExists", b, err)
		}
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "vault.json")); string(got) != string(header) {
		t.Error("vault.json was changed")
	}
	if err := v.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := v.Load("work"); err != nil {
		t.Errorf("unlocked again: %v", err)
	}
	after, err := v.Derive("surrogate")
	if err != nil || !after.Equal(before) {
		t.Errorf("derived key: got another one, %v", err)
	}
	if other, _ := v.Derive("other"); other.Equal(before) {
		t.Error("derived keys: got one for two purposes")
	}
}

func TestHeader(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(h map[string]any)
		want   error
	}{
		"newer":                  {func(h map[string]any) { h["version"] = 2 }, vault.ErrNewer},
		"newer with other types": {func(h map[string]any) { h["version"], h["id"], h["slots"] = 2, 5, "x" }, vault.ErrNewer},
		"no version":             {func(h map[string]any) { delete(h, "version") }, vault.ErrCorrupt},
		"no slots":               {func(h map[string]any) { h["slots"] = nil }, vault.ErrCorrupt},
		"no id":                  {func(h map[string]any) { h["id"] = "" }, vault.ErrCorrupt},
	} {
		_, dir := create(t)
		h := readHeader(t, dir)
		tc.change(h)
		before := writeHeader(t, dir, h)
		if _, err := vault.Open(config(dir)); !errors.Is(err, tc.want) {
			t.Errorf("%s: open: got %v, want %v", name, err, tc.want)
		}
		if _, _, err := vault.Create(t.Context(), config(dir), vault.BackendPassphrase); !errors.Is(err, vault.ErrExists) {
			t.Errorf("%s: create: got %v, want ErrExists", name, err)
		}
		if got, _ := os.ReadFile(filepath.Join(dir, "vault.json")); string(got) != before {
			t.Errorf("%s: vault.json was changed", name)
		}
	}
	_, dir := create(t)
	h := readHeader(t, dir)
	h["slots"] = []any{map[string]any{"backend": "tpm2"}}
	writeHeader(t, dir, h)
	v, err := vault.Open(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Unlock(t.Context()); !errors.Is(err, vault.ErrNewer) {
		t.Errorf("unknown slot: got %v, want ErrNewer", err)
	}
	if _, err := vault.Open(config(t.TempDir())); !errors.Is(err, vault.ErrNoVault) {
		t.Errorf("empty directory: got %v, want ErrNoVault", err)
	}
}

func TestParseBackend(t *testing.T) {
	for _, s := range []string{"auto", "keyring", "kernel", "passphrase"} {
		if got, err := vault.ParseBackend(s); err != nil || string(got) != s {
			t.Errorf("%s: got %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "plaintext", "file", "Kernel"} {
		if _, err := vault.ParseBackend(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

// createKernel makes a vault whose key is in the kernel keyring, and takes it out when the test ends.
func createKernel(t *testing.T) (*vault.Vault, vault.Config) {
	t.Helper()
	_, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true)
	need(t, err, "kernel keyring (keyctl)")
	cfg := vault.Config{Dir: t.TempDir() + "/vault"}
	v, _, err := vault.Create(t.Context(), cfg, vault.BackendKernel)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = removeKernelKey(v.ID()) })
	return v, cfg
}

// removeKernelKey does to the vault key what a reboot does.
func removeKernelKey(id string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	key, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", "claudefs:"+id, 0)
	if err != nil {
		return err
	}
	_, err = unix.KeyctlInt(unix.KEYCTL_UNLINK, key, unix.KEY_SPEC_USER_KEYRING, 0, 0)
	return err
}

func TestKernelSlot(t *testing.T) {
	v, cfg := createKernel(t)
	store(t, v, credential("work"), vault.Version{})
	other, err := vault.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Load("work"); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("before unlock: got %v, want ErrLocked", err)
	}
	if err := other.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := other.Load("work"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]vault.Backend{vault.BackendKernel}, other.Backends()); diff != "" {
		t.Errorf("backends (-want +got):\n%s", diff)
	}
	if err := child(t, "child-unlock", cfg.Dir).Run(); err != nil {
		t.Errorf("from a fresh session: %v", err)
	}
	if keys, err := os.ReadFile("/proc/keys"); err == nil && strings.Contains(string(keys), "work") {
		t.Error("/proc/keys names an account")
	}
}

// After a reboot the key is gone: the vault is locked for good, but never made anew.
func TestKernelSlotKeyGone(t *testing.T) {
	v, cfg := createKernel(t)
	store(t, v, credential("work"), vault.Version{})
	record, _ := os.ReadFile(recordPath(cfg.Dir, "accounts", "work"))
	if err := removeKernelKey(v.ID()); err != nil {
		t.Fatal(err)
	}
	v.Lock()
	err := v.Unlock(t.Context())
	if !errors.Is(err, vault.ErrLocked) || !strings.Contains(fmt.Sprint(err), "reboot") {
		t.Errorf("got %v, want ErrLocked that names the reboot", err)
	}
	if _, _, err := vault.Create(t.Context(), cfg, vault.BackendKernel); !errors.Is(err, vault.ErrExists) {
		t.Errorf("create: got %v, want ErrExists", err)
	}
	if err := v.Unlock(t.Context()); !errors.Is(err, vault.ErrLocked) {
		t.Errorf("again: got %v, want ErrLocked", err)
	}
	if got, _ := os.ReadFile(recordPath(cfg.Dir, "accounts", "work")); string(got) != string(record) {
		t.Error("the record was changed")
	}
}

// A key of the right name that is not this vault's is refused.
func TestKernelSlotForeignKey(t *testing.T) {
	v, _ := createKernel(t)
	for n, want := range map[int]error{32: vault.ErrCorrupt, 31: vault.ErrCorrupt, 64: vault.ErrCorrupt} {
		_, err := unix.AddKey("user", "claudefs:"+v.ID(), []byte(strings.Repeat("k", n)), unix.KEY_SPEC_USER_KEYRING)
		if err != nil {
			t.Fatal(err)
		}
		v.Lock()
		if err := v.Unlock(t.Context()); !errors.Is(err, want) || !v.Locked() {
			t.Errorf("%d bytes: got %v, want %v", n, err, want)
		}
	}
}
