package daemon_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/sys/mountinfo"
	"go.uber.org/goleak"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/config"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/daemon"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; nothing here takes a second.
const patience = 20 * time.Second

const password = "correct horse"

func ask(passphrase string) func(context.Context) (vault.Secret, error) {
	return func(context.Context) (vault.Secret, error) { return vault.NewSecret([]byte(passphrase)), nil }
}

// needFUSE skips the test, or fails it under CI, where a mount is not possible.
func needFUSE(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		_ = f.Close()
		if os.Geteuid() == 0 {
			return
		}
		err = errors.New("the test is not run as root")
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func options(t *testing.T, dir string) daemon.Options {
	t.Helper()
	p, err := policy.Load("shared")
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default(config.Paths{State: dir + "/state", Runtime: dir + "/run", Audit: dir + "/log/audit.jsonl"})
	cfg.Vault.Backend = "passphrase"
	cfg.OAuth.TokenURL = "http://127.0.0.1:1/token"
	return daemon.Options{Config: cfg, Mountpoint: cfg.Mountpoint(), PolicyName: "shared", Policy: p, Account: "default", Passphrase: ask(password)}
}

// seal makes the vault beforehand, with a passphrase slot that costs little.
func seal(t *testing.T, o daemon.Options) {
	t.Helper()
	cfg := vault.Config{Dir: o.Config.VaultDir(), ScryptWorkFactor: 10, Passphrase: ask(password)}
	if _, _, err := vault.Create(t.Context(), cfg, vault.BackendPassphrase); err != nil {
		t.Fatal(err)
	}
}

// run is a daemon that serves.
type run struct {
	control.Client
	opt    daemon.Options
	notice string
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, o daemon.Options) *run {
	t.Helper()
	ready := make(chan string, 1)
	o.Ready = func(notice string, _ bool) { ready <- notice }
	d, err := daemon.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{Client: control.Client{Socket: o.Config.ControlSocket()}, opt: o, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- d.Run(ctx); close(r.ended) }()
	t.Cleanup(func() {
		cancel()
		<-r.ended
		if mounted(t, o.Mountpoint) {
			_ = fs.Unmount(o.Mountpoint)
		}
	})
	select {
	case r.notice = <-ready:
	case err := <-r.ended:
		t.Fatalf("the daemon ended: %v", err)
	case <-time.After(patience):
		t.Fatal("the daemon is not ready")
	}
	return r
}

func (r *run) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the daemon does not end")
		return nil
	}
}

func mounted(t *testing.T, path string) bool {
	t.Helper()
	infos, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	if err != nil {
		t.Fatal(err)
	}
	return len(infos) > 0
}

// wantNothingLeft checks that a daemon has undone everything that it set up.
func wantNothingLeft(t *testing.T, o daemon.Options) {
	t.Helper()
	if mounted(t, o.Mountpoint) {
		t.Errorf("%s is mounted", o.Mountpoint)
		_ = fs.Unmount(o.Mountpoint) // or the directory could not be removed
	}
	if _, err := os.Lstat(o.Config.ControlSocket()); err == nil {
		t.Error("the control socket is left")
	}
	for _, name := range []string{o.Config.StateDir + "/daemon.lock", o.Config.Audit.File + ".lock"} {
		if _, err := os.Stat(name); err != nil {
			continue
		}
		l := flock.New(name)
		if ok, err := l.TryLock(); !ok {
			t.Errorf("%s is still locked: %v", name, err)
		}
		_ = l.Close()
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNewHasNoSideEffects(t *testing.T) {
	dir := t.TempDir()
	o := options(t, dir)
	o.Config.Runtimes = []string{"unix://" + dir + "/none.sock"}
	if _, err := daemon.New(o); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil {
		t.Errorf("made %v, %v", entries, err)
	}
	o.Config.Runtimes = []string{"tcp://10.0.0.1:2375"}
	if _, err := daemon.New(o); err == nil {
		t.Error("a runtime that is no local socket was accepted")
	}
}

func TestRunAndStop(t *testing.T) {
	needFUSE(t)
	for _, how := range []string{"stop", "cancel", "unmount from outside"} {
		t.Run(how, func(t *testing.T) {
			o := options(t, t.TempDir())
			seal(t, o)
			o.Config.Runtimes = []string{"unix://" + t.TempDir() + "/none.sock"}
			r := start(t, o)
			if !mounted(t, o.Mountpoint) || r.notice != "" {
				t.Errorf("mounted %t, notice %q", mounted(t, o.Mountpoint), r.notice)
			}
			s, err := r.Status(t.Context())
			if err != nil || s.PID != os.Getpid() || s.Mountpoint != o.Mountpoint || s.Policy != "shared" || s.Vault.Locked ||
				len(s.Vault.Backends) != 1 || len(s.Runtimes) != 1 || s.Runtimes[0].Error == "" || s.Since.IsZero() {
				t.Errorf("status %+v %v", s, err)
			}
			// A child looks at the mount: this process serves it.
			if out, err := exec.CommandContext(t.Context(), "ls", "-A", o.Mountpoint).CombinedOutput(); err != nil || len(out) != 0 {
				t.Errorf("ls: %q %v", out, err)
			}
			switch how {
			case "stop":
				wantErr(t, r.Stop(t.Context()), nil)
			case "cancel":
				r.cancel()
			default:
				if out, err := exec.CommandContext(t.Context(), "umount", o.Mountpoint).CombinedOutput(); err != nil {
					t.Fatalf("umount: %v: %s", err, out)
				}
			}
			wantErr(t, r.wait(t), nil)
			wantNothingLeft(t, o)
			_, err = r.Status(t.Context())
			wantErr(t, err, control.ErrNoDaemon)
			wantLog(t, o, audit.ActionStart, audit.ActionStop)
		})
	}
}

func wantLog(t *testing.T, o daemon.Options, want ...audit.Action) {
	t.Helper()
	var got []audit.Action
	if err := audit.Read(t.Context(), o.Config.Audit.File, false, func(e audit.Event, _ []byte) error {
		got = append(got, e.Action)
		return nil
	}); err != nil || !slices.Equal(got, want) {
		t.Errorf("audit log %v %v, want %v", got, err, want)
	}
}

func TestSecondDaemon(t *testing.T) {
	needFUSE(t)
	o := options(t, t.TempDir())
	seal(t, o)
	r := start(t, o)
	for name, change := range map[string]func(*daemon.Options, string){
		"the same state": func(*daemon.Options, string) {},
		"the same state, other mountpoint": func(p *daemon.Options, dir string) {
			p.Mountpoint, p.Config.RuntimeDir = dir+"/mnt", dir+"/run"
		},
		"the same mountpoint": func(p *daemon.Options, dir string) { p.Config.StateDir = dir + "/state" },
		"the same socket": func(p *daemon.Options, dir string) {
			p.Config.StateDir, p.Mountpoint = dir+"/state", dir+"/mnt"
		},
	} {
		dir := t.TempDir()
		p, cfg := o, *o.Config
		p.Config = &cfg
		change(&p, dir)
		d, err := daemon.New(p)
		if err != nil {
			t.Fatal(err)
		}
		err = d.Run(t.Context())
		if err == nil || errors.Is(err, daemon.ErrRunning) != strings.HasPrefix(name, "the same state") ||
			errors.Is(err, fs.ErrMounted) != (name == "the same mountpoint") {
			t.Errorf("%s: got %v", name, err)
		}
		if s, err := r.Status(t.Context()); err != nil || s.PID != os.Getpid() || !mounted(t, o.Mountpoint) {
			t.Errorf("%s: the first daemon: %v, mounted %t", name, err, mounted(t, o.Mountpoint))
		}
	}
	r.cancel()
	wantErr(t, r.wait(t), nil)
	wantNothingLeft(t, o)
	// After it has ended another one may follow.
	next := start(t, o)
	next.cancel()
	wantErr(t, next.wait(t), nil)
}

// What fails on the way leaves nothing behind.
func TestRunFails(t *testing.T) {
	needFUSE(t)
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, o *daemon.Options, dir string)
		want   error // nil: any
	}{
		{"mountpoint is a file", func(t *testing.T, o *daemon.Options, dir string) {
			o.Mountpoint = dir + "/file"
			write(t, o.Mountpoint)
		}, fs.ErrMountpoint},
		{"mountpoint is not empty", func(t *testing.T, o *daemon.Options, dir string) {
			o.Mountpoint = dir + "/full"
			write(t, o.Mountpoint+"/file")
		}, fs.ErrMountpoint},
		{"mountpoint in the state directory", func(_ *testing.T, o *daemon.Options, _ string) {
			o.Mountpoint = o.Config.StateDir + "/mnt"
		}, fs.ErrMountpoint},
		{"mountpoint above the state directory", func(_ *testing.T, o *daemon.Options, dir string) { o.Mountpoint = dir }, fs.ErrMountpoint},
		{"mountpoint is another file system", func(_ *testing.T, o *daemon.Options, _ string) { o.Mountpoint = "/proc" }, fs.ErrMountpoint},
		{"audit log cannot be opened", func(t *testing.T, o *daemon.Options, dir string) {
			write(t, dir+"/log")
		}, nil},
		{"vault is damaged", func(t *testing.T, o *daemon.Options, _ string) { write(t, o.Config.VaultDir()+"/vault.json") }, vault.ErrCorrupt},
		{"unknown backend", func(_ *testing.T, o *daemon.Options, _ string) { o.Config.Vault.Backend = "paper" }, nil},
		{"no passphrase for a new vault", func(_ *testing.T, o *daemon.Options, _ string) { o.Passphrase = nil }, nil},
		{"token endpoint is no address", func(t *testing.T, o *daemon.Options, _ string) { seal(t, *o); o.Config.OAuth.TokenURL = "x" }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			o := options(t, dir)
			tt.change(t, &o, dir)
			o.Ready = func(string, bool) { t.Error("it said that it is ready") }
			d, err := daemon.New(o)
			if err != nil {
				t.Fatal(err)
			}
			err = d.Run(t.Context())
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if o.Mountpoint == "/proc" {
				o.Mountpoint = dir + "/none"
			}
			wantNothingLeft(t, o)
		})
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// A vault that stays locked is no reason not to mount; a command opens it later, and its passphrase is used once.
func TestLockedVault(t *testing.T) {
	needFUSE(t)
	o := options(t, t.TempDir())
	seal(t, o)
	var asked atomic.Int32
	o.Passphrase = func(ctx context.Context) (vault.Secret, error) {
		asked.Add(1)
		return ask("wrong")(ctx)
	}
	r := start(t, o)
	if !strings.HasPrefix(r.notice, "vault is locked: ") {
		t.Errorf("notice %q", r.notice)
	}
	locked := func(want bool) {
		t.Helper()
		if s, err := r.Status(t.Context()); err != nil || s.Vault.Locked != want {
			t.Errorf("status %+v %v, want locked %t", s, err, want)
		}
	}
	locked(true)
	wantErr(t, r.UnlockVault(t.Context(), nil), vault.ErrPassphrase)
	wantErr(t, r.UnlockVault(t.Context(), []byte("wrong too")), vault.ErrPassphrase)
	locked(true)
	wantErr(t, r.UnlockVault(t.Context(), []byte(password)), nil)
	locked(false)
	wantErr(t, r.LockVault(t.Context()), nil)
	before := asked.Load()
	wantErr(t, r.UnlockVault(t.Context(), nil), vault.ErrPassphrase)
	if asked.Load() == before {
		t.Error("the command's passphrase was used again")
	}
	locked(true)
}
