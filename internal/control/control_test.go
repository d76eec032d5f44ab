package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

// TestMain lets the test binary be a command of another user, or in another pid namespace.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child-status" {
		s, err := control.Client{Socket: os.Args[2]}.Status(context.Background())
		pid := 0
		if s != nil {
			pid = s.PID
		}
		fmt.Printf("pid %d: %v\n", pid, err)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

type silent struct{}

func (silent) Record(audit.Event) error { return nil }

// daemon is what the server serves.
type daemon struct {
	acc     *accounts.Accounts
	err     error // of Status and Unlock
	stopped chan struct{}
	pass    []byte
	during  func(context.Context) // of Status
}

var status = control.Status{
	SchemaVersion: 1, Version: "v", PID: 4711, Mountpoint: "/m", Policy: "shared",
	Trees: []broker.TreeStatus{{Name: "web", Hint: "h"}}, Runtimes: []control.RuntimeStatus{{Socket: "s", Error: "down"}},
}

func (d *daemon) Status(ctx context.Context) (*control.Status, error) {
	if d.during != nil {
		d.during(ctx)
	}
	s := status
	return &s, d.err
}
func (d *daemon) Accounts() *accounts.Accounts                     { return d.acc }
func (d *daemon) Vault() control.Vault                             { return d }
func (d *daemon) ResetTree(string) error                           { return vault.ErrNotFound }
func (d *daemon) Approve(string, string) ([]broker.Waiting, error) { return nil, vault.ErrNotFound }
func (d *daemon) Explain(_ context.Context, q control.Question) (*broker.Explanation, error) {
	return &broker.Explanation{Tree: q.Tree, Reason: q.Container}, nil
}

func (d *daemon) ReloadPolicy() (control.PolicyStatus, error) {
	return control.PolicyStatus{Rules: 2}, nil
}

func (d *daemon) HandOver(_ context.Context, binary string) error {
	return fmt.Errorf("%s: %w", binary, control.ErrNotProven)
}

func (d *daemon) Stop() { close(d.stopped) }
func (d *daemon) Lock() { d.acc.Vault.Lock() }
func (d *daemon) Unlock(ctx context.Context, p []byte) error {
	d.pass = append([]byte(nil), p...)
	return errors.Join(d.err, d.acc.Vault.Unlock(ctx))
}

type world struct {
	control.Client
	d      *daemon
	srv    *refreshtest.Server
	end    context.CancelFunc
	served chan error
}

func serve(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	v, _, err := vault.Create(t.Context(), vault.Config{
		Dir: dir + "/vault", ScryptWorkFactor: 10,
		Passphrase: func(context.Context) (vault.Secret, error) { return vault.NewSecret([]byte("correct horse")), nil },
	}, vault.BackendPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{srv: refreshtest.New(refreshtest.Config{}), served: make(chan error, 1), Client: control.Client{Socket: dir + "/run/control.sock"}}
	r, err := refresh.New(refresh.Config{Store: v, TokenURL: "https://as.test/token", ClientID: "c", Transport: w.srv.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	w.d = &daemon{acc: &accounts.Accounts{Vault: v, Tokens: r, Audit: silent{}}, stopped: make(chan struct{})}
	s, err := control.Listen(w.Socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	go func() { w.served <- s.Serve(ctx, w.d); close(w.served) }()
	t.Cleanup(func() {
		cancel()
		if err := <-w.served; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(w.Socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return w
}

func (w *world) file(t *testing.T) []byte {
	t.Helper()
	b, err := json.Marshal(w.srv.NewLogin().File())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	w := serve(t)
	ctx := t.Context()
	s, err := w.Status(ctx)
	if d := cmp.Diff(&status, s); d != "" || err != nil {
		t.Errorf("status: %v %s", err, d)
	}
	if l, err := w.Accounts(ctx); err != nil || len(l) != 0 {
		t.Errorf("accounts: %v %v", l, err)
	}
	imported, err := w.Import(ctx, "work", w.file(t))
	if err != nil || imported.Generation != 1 || imported.State != "valid" {
		t.Errorf("import: %+v %v", imported, err)
	}
	here, _ := w.d.acc.Show("work")
	shown, err := w.Account(ctx, "work")
	if d := cmp.Diff(here, shown); d != "" || err != nil {
		t.Errorf("show: %v %s", err, d)
	}
	for force, want := range map[bool]uint64{false: 1, true: 2} {
		if i, err := w.Refresh(ctx, "work", force); err != nil || force && i.Generation != want {
			t.Errorf("refresh, force %t: %+v %v", force, i, err)
		}
	}
	if w.srv.Grants() != 1 {
		t.Errorf("%d grants, want that of --force alone", w.srv.Grants())
	}
	wantErr(t, w.LockVault(ctx), nil)
	if !w.d.acc.Vault.Locked() {
		t.Error("the vault is not locked")
	}
	wantErr(t, w.UnlockVault(ctx, []byte("secret words")), nil)
	if string(w.d.pass) != "secret words" || w.d.acc.Vault.Locked() {
		t.Errorf("passphrase %q", w.d.pass)
	}
	wantErr(t, w.Remove(ctx, "work"), nil)
	if l, err := w.Accounts(ctx); err != nil || len(l) != 0 {
		t.Errorf("after remove: %v %v", l, err)
	}
	wantErr(t, w.Stop(ctx), nil)
	<-w.d.stopped
	if st, err := os.Stat(w.Socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v %v", st.Mode(), err)
	}
}

// An account's name travels as it is, whatever is in it.
func TestAccountNames(t *testing.T) {
	w := serve(t)
	for _, id := range []string{"../work", "a/b", "a?force=true", "%2e%2e", "a b", ".."} {
		if _, err := w.Import(t.Context(), id, w.file(t)); err == nil {
			t.Errorf("%q was imported", id)
		}
	}
	if ids, err := w.d.acc.Vault.Accounts(); len(ids) != 0 || err != nil {
		t.Errorf("accounts %v %v", ids, err)
	}
}

func TestErrorsKeepTheirIdentity(t *testing.T) {
	w := serve(t)
	all := []error{
		refresh.ErrLoginRequired, refresh.ErrStatic, refresh.ErrNotYet, vault.ErrNotFound, vault.ErrLocked,
		vault.ErrPassphrase, policy.ErrDenied, credfile.ErrSyntax,
	}
	for _, want := range all {
		w.d.err = fmt.Errorf("do this: %w", want)
		_, err := w.Status(t.Context())
		if err == nil || err.Error() != w.d.err.Error() {
			t.Errorf("got %q, want %q", err, w.d.err)
		}
		for _, other := range all {
			if errors.Is(err, other) != (want == other) {
				t.Errorf("%v: errors.Is(%v) is %t", want, other, errors.Is(err, other))
			}
		}
	}
	w.d.err = errors.New("of no kind")
	if _, err := w.Status(t.Context()); err == nil || err.Error() != "of no kind" || errors.Unwrap(err) != nil {
		t.Errorf("got %v", err)
	}
	_, err := w.Account(t.Context(), "none")
	wantErr(t, err, vault.ErrNotFound)
	_, err = w.Import(t.Context(), "work", []byte("{"))
	wantErr(t, err, credfile.ErrSyntax)
}

func TestOversizeBody(t *testing.T) {
	w := serve(t)
	for _, n := range []int{credfile.MaxSize + 1, 3 << 20, 32 << 20} {
		_, err := w.Import(t.Context(), "work", []byte(strings.Repeat(" ", n)+string(w.file(t))))
		if err == nil || errors.Is(err, control.ErrNoDaemon) {
			t.Errorf("%d bytes: got %v, want a refusal", n, err)
		}
	}
	if ids, err := w.d.acc.Vault.Accounts(); len(ids) != 0 || err != nil {
		t.Errorf("accounts %v %v", ids, err)
	}
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	_, err := control.Client{Socket: dir + "/none"}.Status(t.Context())
	wantErr(t, err, control.ErrNoDaemon)
	_, err = control.Client{Socket: stale(t, dir+"/stale")}.Status(t.Context())
	wantErr(t, err, control.ErrNoDaemon)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = control.Client{Socket: dir + "/none"}.Status(ctx)
	if errors.Is(err, control.ErrNoDaemon) || err == nil {
		t.Errorf("interrupted: got %v", err)
	}
}

// stale is a socket that nobody listens on, as a killed daemon leaves it.
func stale(t *testing.T, path string) string {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	s, err := control.Listen(stale(t, dir+"/stale"))
	if err != nil {
		t.Fatalf("stale socket: %v", err)
	}
	// A live one is left alone, as is what is no socket.
	if other, err := control.Listen(dir + "/stale"); err == nil {
		t.Error("a live socket was replaced")
		_ = other.Close()
	}
	wantErr(t, s.Close(), nil)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(file); err == nil {
		t.Error("a file was replaced")
	}
	if b, err := os.ReadFile(file); string(b) != "mine" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := control.Listen(file + "/below"); err == nil {
		t.Error("listening below a file")
	}
}

// Serve ends after the requests under way: what they use is undone next.
func TestServeWaitsForRequests(t *testing.T) {
	w := serve(t)
	ended := make(chan struct{})
	w.d.during = func(ctx context.Context) {
		w.end()
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond)
		close(ended)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := w.Status(context.Background())
		asked <- err
	}()
	err := <-w.served
	select {
	case <-ended:
	default:
		t.Error("Serve ended before the request")
	}
	wantErr(t, err, nil)
	wantErr(t, <-asked, nil)
}

// child runs this binary as a command against the socket.
func child(t *testing.T, socket string, attr *syscall.SysProcAttr) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("the test needs root")
		}
		t.Skip("the test needs root")
	}
	// Anybody may execute the copy and reach the socket: the credentials alone decide.
	exe := filepath.Join(t.TempDir(), "child")
	b, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(exe, b, 0o755)
	}
	for p := filepath.Dir(exe); err == nil && p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		err = os.Chmod(p, 0o755)
	}
	for p := filepath.Dir(socket); err == nil && p != os.TempDir() && p != "/"; p = filepath.Dir(p) {
		err = os.Chmod(p, 0o755)
	}
	if err = errors.Join(err, os.Chmod(socket, 0o777)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "child-status", socket)
	cmd.SysProcAttr, cmd.Dir = attr, "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestPeers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		attr    *syscall.SysProcAttr
		allowed bool
	}{
		{"the daemon's own user", &syscall.SysProcAttr{}, true},
		{"another user", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, false},
		{"another user of root's group", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 0}}, false},
		{"root in another pid namespace", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := serve(t)
			got := child(t, w.Socket, tt.attr)
			want := "pid 0: only the daemon's own user and root may command it\n"
			if tt.allowed {
				want = "pid 4711: <nil>\n"
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
