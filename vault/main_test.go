package vault_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/vault"
)

// TestMain lets the test binary be the processes that the tests need: the keyring helper and users of one vault.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if run, ok := children[os.Args[1]]; ok {
			if err := run(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

var children = map[string]func(args []string) error{
	"vault-helper":    func([]string) error { return vault.RunKeyringHelper(os.Stdin, os.Stdout) },
	"child-panic":     func([]string) error { panic(vault.NewSecret([]byte(token))) },
	"child-panic-in":  func([]string) error { panic(holder{vault.NewSecret([]byte(token))}) },
	"child-panic-err": func([]string) error { panic(fmt.Errorf("broken: %v", vault.NewSecret([]byte(token)))) },
	"child-increment": childIncrement,
	"child-write":     childWrite,
	"child-unlock":    childUnlock,
}

// childIncrement DIR GOROUTINES TIMES counts the account's generation up from many goroutines.
func childIncrement(args []string) error {
	v, err := openUnlocked(args[0])
	if err != nil {
		return err
	}
	goroutines, _ := strconv.Atoi(args[1])
	times, _ := strconv.Atoi(args[2])
	var wg sync.WaitGroup
	errs := make([]error, goroutines)
	for i := range goroutines {
		wg.Go(func() {
			for range times {
				errs[i] = errors.Join(errs[i], increment(v))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func increment(v *vault.Vault) error {
	for {
		c, version, err := v.Load("counter")
		if err != nil {
			return err
		}
		c.Generation++
		if _, err = v.Store(c, version); !errors.Is(err, vault.ErrConflict) {
			return err
		}
	}
}

// childWrite DIR stores generation after generation and prints each one that Store has taken, until it is killed.
func childWrite(args []string) error {
	v, err := openUnlocked(args[0])
	if err != nil {
		return err
	}
	for {
		c, version, err := v.Load("written")
		if err != nil {
			return err
		}
		c.Generation++
		c.AccessToken = vault.NewSecret(fmt.Append(nil, "token-", c.Generation))
		if _, err := v.Store(c, version); err != nil {
			return err
		}
		fmt.Println(c.Generation)
	}
}

// childUnlock DIR opens a vault from a fresh session keyring, as a login by ssh has.
func childUnlock(args []string) error {
	runtime.LockOSThread() // keyrings belong to the thread
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		return err
	}
	v, err := vault.Open(vault.Config{Dir: args[0]})
	if err != nil {
		return err
	}
	return v.Unlock(context.Background())
}

// token is what the tests look for where no secret may be.
const token = "sk-ant-ort01-SECRETSECRET"

// password is the passphrase of the vaults under test.
const password = "correct horse"

func ask(passphrase string) func(context.Context) (vault.Secret, error) {
	return func(context.Context) (vault.Secret, error) { return vault.NewSecret([]byte(passphrase)), nil }
}

func config(dir string) vault.Config {
	return vault.Config{Dir: dir, Passphrase: ask(password), ScryptWorkFactor: 10, Log: slog.New(slog.DiscardHandler)}
}

func openUnlocked(dir string) (*vault.Vault, error) {
	v, err := vault.Open(config(dir))
	if err != nil {
		return nil, err
	}
	return v, v.Unlock(context.Background())
}

// create makes an unlocked vault in a directory of its own.
func create(t testing.TB) (*vault.Vault, string) {
	t.Helper()
	dir := t.TempDir() + "/vault"
	v, _, err := vault.Create(t.Context(), config(dir), vault.BackendPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	return v, dir
}

func again(t testing.TB, dir string) *vault.Vault {
	t.Helper()
	v, err := openUnlocked(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func credential(a vault.AccountID) *vault.Credential {
	now := time.UnixMilli(1790000000000)
	return &vault.Credential{
		Account: a, AccessToken: vault.NewSecret([]byte("access-of-" + a)), RefreshToken: vault.NewSecret([]byte(token)),
		ExpiresAt: now.Add(8 * time.Hour), IssuedAt: now, RotatedAt: now, Generation: 1,
		Scopes: []string{"user:inference"}, SubscriptionType: "max", State: vault.StateValid,
	}
}

func store(t testing.TB, v *vault.Vault, c *vault.Credential, want vault.Version) vault.Version {
	t.Helper()
	version, err := v.Store(c, want)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

// child is this test binary as another process.
func child(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// lastLine drains r into the number on its last whole line.
func lastLine(r *bufio.Reader) (n uint64) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return n
		}
		n, _ = strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	}
}

// need skips the test, or fails it under CI, when a real part of the system that it needs is missing.
func need(t testing.TB, err error, what string) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: %v", what, err)
	}
	t.Skipf("%s is missing: %v", what, err)
}

func readHeader(t testing.TB, dir string) map[string]any {
	t.Helper()
	b, err := os.ReadFile(dir + "/vault.json")
	if err != nil {
		t.Fatal(err)
	}
	var h map[string]any
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func writeHeader(t testing.TB, dir string, h map[string]any) string {
	t.Helper()
	b, err := json.Marshal(h)
	if err == nil {
		err = os.WriteFile(dir+"/vault.json", b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
