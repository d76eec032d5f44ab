package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/keeper"
	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/serve"
)

// The test binary is keeper and server too: a reader in the serving process could deadlock with it, and a keeper gives
// its capabilities up.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "keep":
		os.Exit(keep(os.Args[2]))
	case len(os.Args) > 2 && os.Args[1] == "serve":
		os.Exit(serveMount(os.Args[2]))
	}
	os.Exit(m.Run())
}

const grace = 500 * time.Millisecond

func keep(dir string) int {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	k, err := keeper.New(keeper.Config{
		Args: []string{"serve", dir}, Env: os.Environ(), Exe: exe, Grace: grace, Stdout: os.Stdout, Stderr: os.Stderr,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return 1
	}
	code, err := k.Run(ctx, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// serveMount serves dir/mnt until SIGTERM. dir/broken keeps it from starting, dir/silent from saying that it serves;
// dir/noresend makes it one for old kernels.
func serveMount(dir string) int {
	held, err := fdstore.Inherited(os.Getenv, os.Unsetenv)
	if err != nil {
		return 1
	}
	store := fdstore.New(held, "")
	if exists(dir + "/broken") {
		_ = store.Notify("STATUS=broken on purpose")
		return 4
	}
	mnt := dir + "/mnt"
	device, took := store.Take(fdstore.Device)
	var l *ledger.Ledger
	if took {
		fd, _ := store.Take(fdstore.Ledger)
		if l, err = ledger.Open(fd); err == nil {
			report(dir, store, l)
		}
	} else {
		l, err = ledger.New()
		if err == nil {
			err = store.Keep(fdstore.Ledger, l.FD())
		}
		if err == nil {
			device, err = serve.Mount(mnt, false)
		}
		if err == nil {
			err = store.Keep(fdstore.Device, device)
		}
		if null, failed := os.Open(os.DevNull); err == nil && failed == nil {
			err = errors.Join(store.Keep(fdstore.Waiting, int(null.Fd())), store.Keep(fdstore.Abort, int(null.Fd())))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		return 1
	}
	blame := uint64(serve.BlameOther)
	if os.Getenv(fdstore.EndVar) == fdstore.EndSelf {
		blame = serve.BlameSelf
	}
	s, err := serve.Attach(serve.Config{
		FS: fusefs.NewNodeFS(&root{dir: dir, store: store}, nil), Device: device, Ledger: l, Blame: blame,
		NoResend: exists(dir + "/noresend"), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		return 1
	}
	go s.Serve()
	exe, err := os.Open("/proc/self/exe")
	if err == nil {
		err = store.Keep(fdstore.Exe, int(exe.Fd()))
	}
	if err != nil {
		return 1
	}
	if exists(dir + "/silent") {
		_ = os.WriteFile(dir+"/pid", fmt.Append(nil, os.Getpid()), 0o600)
		select {}
	}
	_ = store.Notify("X_CLAUDEFS_STATE="+dir+"/"+keeper.FileName, "WATCHDOG_USEC=2000000", "READY=1")
	if exists(dir + "/watched") {
		go beat(store, s)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	_ = store.Notify("STOPPING=1")
	_ = syscall.Unmount(mnt, syscall.MNT_DETACH)
	return 0
}

// report does what the keeper could not, and writes down how many handles are open then, and what is kept.
func report(dir string, store *fdstore.Store, l *ledger.Ledger) {
	for r := range store.Refused() {
		switch r.Opcode {
		case fdstore.OpForget:
			l.Forget(r.ID, r.Count)
		case fdstore.OpRelease, fdstore.OpReleaseDir:
			l.Release(r.ID)
		}
	}
	handles := 0
	l.Handles(func(uint64, ledger.Handle, uint64) { handles++ })
	_ = os.WriteFile(dir+"/report", fmt.Appendf(nil, "%d handles, %v", handles, store.Names()), 0o600)
}

// beat is the daemon's heartbeat, four times as fast.
func beat(store *fdstore.Store, s *serve.Server) {
	for range time.Tick(250 * time.Millisecond) {
		sign := "WATCHDOG=1"
		if s.Stuck() {
			sign = "WATCHDOG=trigger"
		}
		_ = store.Notify(sign)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// root has a file "plain"; what happens when another name is looked up is in that name.
type root struct {
	fusefs.Inode
	dir   string
	store *fdstore.Store
}

func (r *root) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	switch name {
	case "poison": // ends every server that touches it
		os.Exit(3)
	case "block": // is answered by the second server only
		if !exists(r.dir + "/blocked") {
			_ = os.WriteFile(r.dir+"/blocked", nil, 0o600)
			select {}
		}
	case "upgrade": // the next program is one that does not serve
		if exists(r.dir + "/upgraded") {
			break
		}
		f, err := os.Open("/bin/false")
		if err != nil || r.store.Keep(fdstore.Exe, int(f.Fd())) != nil {
			return nil, syscall.EIO
		}
		_ = os.WriteFile(r.dir+"/upgraded", nil, 0o600)
		os.Exit(0)
	case "plain":
	default:
		return nil, syscall.ENOENT
	}
	out.Attr = fuse.Attr{Ino: 7, Size: 6, Mode: syscall.S_IFREG | 0o644, Nlink: 1}
	file := &file{fusefs.MemRegularFile{Data: []byte("plain\n")}}
	return r.NewInode(ctx, file, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: 7}), 0
}

// file has handles.
type file struct{ fusefs.MemRegularFile }

func (f *file) Open(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return &struct{ int }{}, 0, 0
}

// mount is a kept mount.
type mount struct {
	t    *testing.T
	dir  string
	log  string
	proc *exec.Cmd
}

func start(t *testing.T, files ...string) *mount {
	t.Helper()
	if os.Geteuid() != 0 || !exists("/dev/fuse") {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root and /dev/fuse")
		}
		t.Skip("needs root and /dev/fuse")
	}
	dir, err := os.MkdirTemp("", "claudefs-keeper-")
	if err != nil {
		t.Fatal(err)
	}
	m := &mount{t: t, dir: dir, log: dir + "/log"}
	for _, f := range files {
		m.touch(f)
	}
	if err := os.Mkdir(dir+"/mnt", 0o755); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(m.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	m.proc = exec.Command("/proc/self/exe", "keep", dir)
	m.proc.Stdout, m.proc.Stderr = log, log
	if err := m.proc.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.end)
	m.await(keeper.Serving)
	return m
}

func (m *mount) touch(name string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), nil, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mount) status() *keeper.Status {
	s, err := keeper.ReadStatus(m.dir)
	if err != nil {
		return &keeper.Status{}
	}
	return s
}

func (m *mount) await(want keeper.State) {
	m.t.Helper()
	for end := time.Now().Add(20 * time.Second); m.status().State != want; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("state is %q, want %q\n%s", m.status().State, want, m.logText())
		}
	}
}

func (m *mount) logText() string {
	b, _ := os.ReadFile(m.log)
	return string(b)
}

// cat reads a file in a process of its own.
func (m *mount) cat(name string) (string, time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	begun := time.Now()
	out, _ := exec.CommandContext(ctx, "cat", filepath.Join(m.dir, "mnt", name)).CombinedOutput()
	return string(out), time.Since(begun)
}

func (m *mount) end() {
	if m.proc.ProcessState == nil {
		_ = m.proc.Process.Signal(syscall.SIGTERM)
		done := make(chan error, 1)
		go func() { done <- m.proc.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				m.t.Errorf("keeper ended with %v\n%s", err, m.logText())
			}
		case <-time.After(10 * time.Second):
			_ = m.proc.Process.Kill()
			_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
			m.t.Errorf("keeper does not end\n%s", m.logText())
		}
	}
	if syscall.Unmount(m.dir+"/mnt", syscall.MNT_DETACH) == nil {
		m.t.Error("the mount was left")
	}
	if exists(m.dir + "/" + keeper.FileName) {
		m.t.Error("the status file was left")
	}
	_ = os.RemoveAll(m.dir)
}

func (m *mount) wantPlain() {
	m.t.Helper()
	if out, _ := m.cat("plain"); out != "plain\n" {
		m.t.Errorf("plain file reads %q\n%s", out, m.logText())
	}
}

func TestServerEndsByItself(t *testing.T) {
	m := start(t)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGABRT} {
		old := m.status().Server
		if err := syscall.Kill(old, sig); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); m.status().Server == old && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		m.await(keeper.Serving)
		m.wantPlain()
	}
	if s := m.status(); s.Restarts != 3 || !strings.HasPrefix(s.LastEnd, "signal abort") && !strings.HasPrefix(s.LastEnd, "exit code 2") {
		t.Errorf("status %+v", s)
	}
}

// A request that ends every server which is given it is answered with EIO by the fourth, and everything else goes on.
func TestPoisonRequest(t *testing.T) {
	m := start(t)
	out, _ := m.cat("poison")
	if !strings.Contains(out, "Input/output error") {
		t.Errorf("poison: %q\n%s", out, m.logText())
	}
	if s := m.status(); s.Restarts != 3 {
		t.Errorf("%d restarts, want 3", s.Restarts)
	}
	m.wantPlain()
}

// On a kernel that cannot send requests again, one that was under way ends with EINTR and its caller does not hang.
func TestNoResend(t *testing.T) {
	m := start(t, "noresend")
	answer := make(chan string, 1)
	go func() {
		out, _ := m.cat("block")
		answer <- out
	}()
	for end := time.Now().Add(10 * time.Second); !exists(m.dir+"/blocked") && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
	select {
	case out := <-answer:
		if !strings.Contains(out, "Interrupted") {
			t.Errorf("got %q", out)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the caller hangs")
	}
	m.wantPlain()
}

// A kernel that can send the request again does: the caller notices nothing.
func TestResend(t *testing.T) {
	m := start(t)
	answer := make(chan string, 1)
	go func() {
		out, _ := m.cat("block")
		answer <- out
	}()
	for end := time.Now().Add(10 * time.Second); !exists(m.dir+"/blocked") && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
	select {
	case out := <-answer:
		if out != "plain\n" {
			t.Errorf("got %q", out)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the caller hangs")
	}
}

// A server that knows that a request does not end says so, writes down where it hangs, and is replaced.
func TestHungRequest(t *testing.T) {
	m := start(t, "watched")
	if out, took := m.cat("block"); out != "plain\n" || took < 500*time.Millisecond {
		t.Errorf("got %q after %v", out, took)
	}
	if s := m.status(); s.Restarts != 1 || !strings.Contains(s.LastEnd, "did not answer") {
		t.Errorf("status %+v", s)
	}
	if !strings.Contains(m.logText(), "(*root).Lookup") {
		t.Error("the log does not show where it hung")
	}
	time.Sleep(time.Second) // a server without requests is left alone
	if s := m.status(); s.Restarts != 1 {
		t.Errorf("an idle server was replaced: %+v", s)
	}
}

// While no server starts, requests wait for a moment and are then refused at once; afterwards all is well again.
func TestNoServer(t *testing.T) {
	m := start(t)
	m.touch("broken")
	_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
	out, took := m.cat("plain")
	if !strings.Contains(out, "Input/output error") || took < grace/2 {
		t.Errorf("first read: %q after %v", out, took)
	}
	if out, took = m.cat("plain"); !strings.Contains(out, "Input/output error") || took > 5*time.Second {
		t.Errorf("second read: %q after %v", out, took)
	}
	if s := m.status(); s.State != keeper.Failing || s.Message != "broken on purpose" {
		t.Errorf("status %+v", s)
	}
	if err := os.Remove(m.dir + "/broken"); err != nil {
		t.Fatal(err)
	}
	m.await(keeper.Serving)
	m.wantPlain()
}

// What a server had read that died before it said that it serves is refused too, although refusing began before.
func TestServerDiesUnheard(t *testing.T) {
	m := start(t)
	m.touch("broken")
	_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
	m.await(keeper.Failing)
	m.touch("silent")
	if err := os.Remove(m.dir + "/broken"); err != nil {
		t.Fatal(err)
	}
	var last string
	ended := make(chan struct{})
	go func() { // until the server and not the keeper gets one
		for end := time.Now().Add(10 * time.Second); !exists(m.dir+"/blocked") && time.Now().Before(end); {
			last, _ = m.cat("block")
		}
		close(ended)
	}()
	for end := time.Now().Add(10 * time.Second); !exists(m.dir+"/blocked") && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	m.touch("broken")
	b, err := os.ReadFile(m.dir + "/pid")
	pid, _ := strconv.Atoi(string(b))
	if err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Fatalf("no server to kill: %v\n%s", err, m.logText())
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the caller hangs")
	}
	if err := errors.Join(os.Remove(m.dir+"/silent"), os.Remove(m.dir+"/broken")); err != nil {
		t.Fatal(err)
	}
	m.await(keeper.Serving)
	if <-ended; !strings.Contains(last, "Input/output error") {
		t.Errorf("the caller got %q", last)
	}
}

// A file that is closed while no server runs is not open in the next one; one that is still open is.
func TestClosedWithoutServer(t *testing.T) {
	m := start(t)
	opened := func() *exec.Cmd {
		t.Helper()
		c := exec.Command("sh", "-c", "exec 3<"+m.dir+"/mnt/plain; echo open; read wait")
		out, err1 := c.StdoutPipe()
		_, err2 := c.StdinPipe()
		if err := errors.Join(err1, err2, c.Start()); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	end := func(c *exec.Cmd) {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	stays, before, after := opened(), opened(), opened()
	m.touch("broken")
	_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
	end(before)
	m.await(keeper.Failing)
	end(after)
	_, _ = m.cat("plain") // behind the end of the handle
	if err := os.Remove(m.dir + "/broken"); err != nil {
		t.Fatal(err)
	}
	m.await(keeper.Serving)
	m.wantPlain()
	if b, err := os.ReadFile(m.dir + "/report"); !strings.HasPrefix(string(b), "1 handles") {
		t.Errorf("the next server has %q, %v", b, err)
	}
	end(stays)
}

// The next server has all that another keeper would need, which it may have to start.
func TestNextServerHands(t *testing.T) {
	m := start(t)
	old := m.status().Server
	_ = syscall.Kill(old, syscall.SIGKILL)
	for end := time.Now().Add(10 * time.Second); m.status().Server == old && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	m.await(keeper.Serving)
	want := fmt.Sprint([]string{fdstore.Abort, fdstore.Device, fdstore.Ledger, fdstore.Refusals, fdstore.Waiting}) // its program it knows
	if b, err := os.ReadFile(m.dir + "/report"); !strings.HasSuffix(string(b), want) {
		t.Errorf("the next server has %q, %v, want %s", b, err, want)
	}
}

// A new program that does not serve gives way to the one before it.
func TestNewProgramDoesNotServe(t *testing.T) {
	m := start(t)
	done := make(chan struct{})
	go func() {
		_, _ = m.cat("upgrade") // the request goes from server to server
		close(done)
	}()
	for end := time.Now().Add(20 * time.Second); !exists(m.dir+"/upgraded") && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	<-done
	m.wantPlain()
	if !strings.Contains(m.logText(), "the one before it goes on") || !m.status().Alive() {
		t.Errorf("the keeper does not say so\n%s", m.logText())
	}
}

// A first server that does not start is the user's affair: the keeper ends with its exit code.
func TestFirstStartFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/broken", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := exec.Command("/proc/self/exe", "keep", dir).Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("got %v, want exit code 4", err)
	}
}

// A mount that is taken away from outside ends the keeper.
func TestUnmountedFromOutside(t *testing.T) {
	m := start(t)
	m.touch("broken") // no other server follows
	if err := syscall.Unmount(m.dir+"/mnt", 0); err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(m.status().Server, syscall.SIGKILL)
	done := make(chan struct{})
	go func() {
		_ = m.proc.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("the keeper goes on\n%s", m.logText())
	}
}
