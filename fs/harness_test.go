package fs_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// fileSource is a Source whose state lies in a directory, so that a test can change what the served process answers:
// "content" is the credential file (absent: ENOENT), "denied" refuses reads, "busy" refuses the lock, "log" collects
// what was asked.
type fileSource struct {
	dir string
	mu  sync.Mutex
}

func (s *fileSource) path(name string) string { return filepath.Join(s.dir, name) }

func (s *fileSource) has(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

func (s *fileSource) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintf(f, format+"\n", args...)
}

func (s *fileSource) Enter(_ context.Context, _ identity.Caller, tree string) error {
	if strings.HasPrefix(tree, "hidden") {
		return iofs.ErrNotExist
	}
	return nil
}

func (s *fileSource) Use(context.Context, identity.Caller, string) error {
	if s.has("unused") {
		return iofs.ErrPermission
	}
	return nil
}

func (s *fileSource) List(context.Context, identity.Caller) []string { return []string{"web"} }

func (s *fileSource) StateDir(tree string) (string, error) {
	dir := s.path("state-" + tree)
	if err := os.Mkdir(dir, 0o777); err != nil && !os.IsExist(err) {
		return "", err
	}
	return dir, os.Chmod(dir, 0o777)
}

func (s *fileSource) Stat(string) (fs.Stat, error) {
	st, err := os.Stat(s.path("content"))
	if err != nil {
		return fs.Stat{}, err
	}
	return fs.Stat{Version: uint64(st.ModTime().UnixNano()) ^ uint64(st.Size())<<32, Size: st.Size(), ModTime: st.ModTime()}, nil
}

func (s *fileSource) Open(_ context.Context, c identity.Caller, tree string) (*fs.Snapshot, error) {
	s.note("open %s uid=%d", tree, c.UID)
	if s.has("denied") {
		return nil, iofs.ErrPermission
	}
	if s.has("failing") {
		return nil, syscall.EIO
	}
	b, err := os.ReadFile(s.path("content"))
	if err != nil {
		return nil, err
	}
	st, err := s.Stat(tree)
	st.Size = int64(len(b))
	return &fs.Snapshot{Stat: st, Content: b}, err
}

func (s *fileSource) Write(_ context.Context, c identity.Caller, tree string) (fs.Change, error) {
	if s.has("denied") {
		return nil, iofs.ErrPermission
	}
	s.note("write %s uid=%d", tree, c.UID)
	return s, nil
}

func (s *fileSource) Publish(_ context.Context, _ string, content []byte) error {
	s.note("publish %q", content)
	if strings.Contains(string(content), "garbage") {
		return iofs.ErrPermission
	}
	tmp := s.path("content.tmp")
	if err := os.WriteFile(tmp, content, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, s.path("content"))
}

func (s *fileSource) Ticket() ([]byte, error) { return []byte("ticket"), nil }

func (s *fileSource) Redeem(_ string, ticket []byte) (fs.Change, error) {
	if string(ticket) != "ticket" {
		return nil, iofs.ErrPermission
	}
	return s, nil
}

func (s *fileSource) Remove(context.Context) error {
	s.note("remove")
	return os.Remove(s.path("content"))
}

func (s *fileSource) Acquire(context.Context, identity.Caller, string) error {
	s.note("acquire")
	if s.has("busy") {
		return iofs.ErrExist
	}
	return nil
}

func (s *fileSource) Busy(string) bool { return s.has("busy") }

func (s *fileSource) Check(_ string, text []byte) error {
	if strings.Contains(string(text), "sk-ant-oat01-served") {
		return iofs.ErrPermission
	}
	return nil
}

func (s *fileSource) KeyStat(string) (fs.Stat, error) {
	st, err := os.Stat(s.path("key"))
	if err != nil {
		return fs.Stat{}, err
	}
	return fs.Stat{Version: 1, Size: st.Size(), ModTime: st.ModTime()}, nil
}

func (s *fileSource) OpenKey(_ context.Context, _ identity.Caller, tree string) (*fs.Snapshot, error) {
	if s.has("denied") {
		return nil, iofs.ErrPermission
	}
	st, err1 := s.KeyStat(tree)
	b, err2 := os.ReadFile(s.path("key"))
	return &fs.Snapshot{Stat: st, Content: b}, errors.Join(err1, err2)
}

// Show takes "EVIL" out, and puts what is in the file "base" before the tree's settings.json.
func (s *fileSource) Show(_, name string, own []byte) ([]byte, error) {
	base := s.base(name)
	if own == nil && base == nil {
		return nil, nil
	}
	return append(base, bytes.ReplaceAll(own, []byte("EVIL"), nil)...), nil
}

func (s *fileSource) Keep(_, name string, written []byte) ([]byte, error) {
	return bytes.TrimPrefix(written, s.base(name)), nil
}

func (s *fileSource) Locked(_, name string) bool { return name == "settings.json" && s.has("locked") }

func (s *fileSource) base(name string) []byte {
	if name != "settings.json" {
		return nil
	}
	b, _ := os.ReadFile(s.path("base"))
	return b
}

// serveArg makes the test binary serve a mount: a reader in the serving process itself could deadlock with it.
const serveArg = "serve-mount"

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 3 && os.Args[1] == serveArg:
		serveMount(os.Args[2], os.Args[3])
	case len(os.Args) > 2 && os.Args[1] == asUserArg:
		os.Exit(asUser(os.Args[2], os.Args[3:]))
	default:
		code := m.Run()
		if bin, err := testBinary(); err == nil {
			_ = os.RemoveAll(filepath.Dir(bin))
		}
		os.Exit(code)
	}
}

func serveMount(dir, mountpoint string) {
	s := &fileSource{dir: dir}
	if os.Geteuid() == 0 {
		if err := syscall.Setgroups(nil); err != nil {
			panic(err)
		}
	}
	device, err := serve.Mount(mountpoint, true)
	if err != nil {
		fail(err)
	}
	orphans := fileOrphans{s.path("orphans")}
	if err := os.Mkdir(orphans.dir, 0o700); err != nil {
		fail(err)
	}
	l, err1 := ledger.New()
	a, err2 := sealed.New()
	m, err3 := fs.Attach(fs.Config{
		Mountpoint: mountpoint, Gate: s, Credentials: s, Keys: s, Locks: s, Screen: s, Settings: s, AllowOther: true,
		Device: device, Ledger: l, Sealed: a, Orphans: orphans,
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		fail(err)
	}
	fmt.Println("ready")
	m.Serve()
}

func fail(err error) {
	fmt.Println("error:", err)
	os.Exit(1)
}

// fileOrphans notes what is kept as the files of a directory. Nobody follows this server and takes it.
type fileOrphans struct{ dir string }

func (o fileOrphans) Keep(name string, _ int) error {
	return os.WriteFile(filepath.Join(o.dir, name), nil, 0o600)
}
func (o fileOrphans) Drop(name string)      { _ = os.Remove(filepath.Join(o.dir, name)) }
func (fileOrphans) Take(string) (int, bool) { return 0, false }
func (o fileOrphans) Has(name string) bool  { return slices.Contains(o.Names(), name) }
func (o fileOrphans) Names() (names []string) {
	entries, err := os.ReadDir(o.dir)
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// mounted is a mount served by a child process.
type mounted struct {
	t      *testing.T
	dir    string // the source's directory
	tree   string // <mountpoint>/web
	root   string
	server *exec.Cmd
}

func mount(t *testing.T) *mounted {
	t.Helper()
	needFUSE(t)
	base, err := os.MkdirTemp("", "claudefs-fs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &mounted{t: t, dir: filepath.Join(base, "source"), root: filepath.Join(base, "mnt")}
	m.tree = filepath.Join(m.root, "web")
	for _, d := range []string{m.dir, m.root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.server = exec.Command("/proc/self/exe", serveArg, m.dir, m.root)
	m.server.Stderr = os.Stderr
	out, err := m.server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("serving process said %q: %v", line, err)
	}
	m.set("content", `{"version":1}`)
	return m
}

func (m *mounted) stop() {
	_ = syscall.Unmount(m.root, syscall.MNT_DETACH)
	done := make(chan struct{})
	go func() { _ = m.server.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = m.server.Process.Kill()
		<-done
	}
}

// set writes one of the source's files; clear removes it.
func (m *mounted) set(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mounted) clear(name string) {
	m.t.Helper()
	if err := os.Remove(filepath.Join(m.dir, name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mounted) log() string {
	b, _ := os.ReadFile(filepath.Join(m.dir, "log"))
	return string(b)
}

func (m *mounted) path(name string) string { return filepath.Join(m.tree, name) }

// needFUSE skips where FUSE cannot be had; in CI that is a failure.
func needFUSE(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil && os.Geteuid() == 0 {
		_ = f.Close()
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("FUSE tests need root and /dev/fuse: %v", err)
	}
	t.Skipf("FUSE tests need root and /dev/fuse: %v", err)
}
