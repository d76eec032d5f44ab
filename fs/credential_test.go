package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	credential = ".credentials.json"
	draft      = ".credentials.json.tmp.0a1b2c3d"
	lock       = ".oauth_refresh.lock"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// A rotation is seen by the next stat and the next open, with another inode, and an open handle keeps what it has.
func TestRotationIsSeen(t *testing.T) {
	m := mount(t)
	m.set("content", "first   \n")
	f, err := os.Open(m.path(credential))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := inode(t, m.path(credential))
	st1, _ := os.Stat(m.path(credential))
	m.set("content", "second  \n")
	st2, _ := os.Stat(m.path(credential))
	if !st2.ModTime().After(st1.ModTime()) {
		t.Errorf("mtime %v after %v", st2.ModTime(), st1.ModTime())
	}
	if after := inode(t, m.path(credential)); after == before {
		t.Error("another content has the same inode")
	}
	if got := read(t, m.path(credential)); got != "second  \n" {
		t.Errorf("read %q", got)
	}
	buf := make([]byte, 64)
	if n, _ := f.Read(buf); string(buf[:n]) != "first   \n" {
		t.Errorf("the handle opened before reads %q", buf[:n])
	}
	if st2.Size() != int64(len("second  \n")) {
		t.Errorf("size %d", st2.Size())
	}
}

// Every size change is consistent between open and fstat: a stale size makes some readers cut the file.
func TestSizeFollowsContent(t *testing.T) {
	m := mount(t)
	for i := range 200 {
		want := strings.Repeat("x", 1+(i*37)%3000)
		m.set("content", want)
		if got := read(t, m.path(credential)); got != want {
			t.Fatalf("round %d: read %d bytes, want %d", i, len(got), len(want))
		}
	}
}

// The client's way: O_EXCL, fsync, rename over, chmod. The draft is in no directory of ours.
func TestDraftAndRename(t *testing.T) {
	m := mount(t)
	f, err := os.OpenFile(m.path(draft), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("new login"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.path(draft)); got != "new login" {
		t.Errorf("draft reads %q", got)
	}
	if _, err := os.OpenFile(m.path(draft), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); !errors.Is(err, os.ErrExist) {
		t.Errorf("O_EXCL over a draft: %v", err)
	}
	backing, _ := filepath.Glob(filepath.Join(m.dir, "state-web", ".cred*"))
	if len(backing) > 0 {
		t.Errorf("the backing directory has %v", backing)
	}
	if err := errors.Join(os.Rename(m.path(draft), m.path(credential)), os.Chmod(m.path(credential), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.path(credential)); got != "new login" {
		t.Errorf("credential reads %q", got)
	}
	if _, err := os.Stat(m.path(draft)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("draft after rename: %v", err)
	}
}

// Clients before 2.1 truncate and write in place; close publishes, and its error reaches the writer.
func TestWriteInPlace(t *testing.T) {
	m := mount(t)
	m.set("content", strings.Repeat("old ", 100))
	if err := os.WriteFile(m.path(credential), []byte("in place"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.path(credential)); got != "in place" {
		t.Errorf("read %q", got)
	}
	if err := os.WriteFile(m.path(credential), []byte("garbage"), 0o600); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a refused content: %v, want permission denied", err)
	}
	if got := read(t, m.path(credential)); got != "in place" {
		t.Errorf("after the refusal: %q", got)
	}
}

// unlink, then create: what mv and install do.
func TestRemoveAndCreate(t *testing.T) {
	m := mount(t)
	if err := os.Remove(m.path(credential)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.path(credential)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after unlink: %v", err)
	}
	f, err := os.OpenFile(m.path(credential), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, werr := f.WriteString("again")
	if err := errors.Join(werr, f.Close()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, m.path(credential)); got != "again" {
		t.Errorf("read %q", got)
	}
}

// What would take the credential out of the firewall is refused, with an error that makes no client write in place.
func TestRefusedShapes(t *testing.T) {
	m := mount(t)
	c := m.path(credential)
	for name, op := range map[string]func() error{
		"rename away":       func() error { return os.Rename(c, m.path("elsewhere")) },
		"hard link":         func() error { return os.Link(c, m.path("elsewhere")) },
		"symlink over":      func() error { return os.Symlink("/etc/passwd", m.path(credential+".link")) },
		"truncate by name":  func() error { return os.Truncate(c, 0) },
		"mknod":             func() error { return syscall.Mknod(m.path(credential+".x"), syscall.S_IFREG|0o600, 0) },
		"lock is no file":   func() error { return os.WriteFile(m.path(lock), nil, 0o600) },
		"remove lock, none": func() error { return os.Remove(m.path(lock)) },
		"tree at the root":  func() error { return os.Mkdir(filepath.Join(m.root, "new"), 0o700) },
		"hidden tree":       func() error { _, err := os.Stat(filepath.Join(m.root, "hidden")); return err },
		"device":            func() error { return syscall.Mknod(m.path("null"), syscall.S_IFCHR|0o600, 0x103) },
	} {
		err := op()
		if err == nil || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EXDEV) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(m.path("state"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(m.path("state"), c); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("state file renamed over the credential: %v, want EXDEV so that it is copied", err)
	}
}

// mkdir of the lock asks for a newer token; while none can be had it looks taken, and fresh.
func TestLockHandOff(t *testing.T) {
	m := mount(t)
	if _, err := os.Stat(m.path(lock)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("before: %v", err)
	}
	if err := os.Mkdir(m.path(lock), 0o700); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(m.log(), "acquire\n") {
		t.Error("the source was not asked")
	}
	if err := os.Mkdir(m.path(lock), 0o700); !errors.Is(err, os.ErrExist) {
		t.Errorf("second mkdir: %v", err)
	}
	then := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(m.path(lock), then, then); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(m.path(lock)); err != nil || !st.ModTime().Equal(then) {
		t.Errorf("a touched lock: %v %v", st, err)
	}
	if err := os.Remove(m.path(lock)); err != nil {
		t.Fatal(err)
	}
	m.set("busy", "")
	if err := os.Mkdir(m.path(lock), 0o700); !errors.Is(err, os.ErrExist) {
		t.Errorf("mkdir while busy: %v", err)
	}
	st, err := os.Stat(m.path(lock))
	if err != nil || !st.IsDir() || time.Since(st.ModTime()) > time.Minute {
		t.Errorf("lock while busy: %v %v", st, err)
	}
	m.clear("busy")
	if _, err := os.Stat(m.path(lock)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after: %v", err)
	}
}

// Errors of the source reach the reader as the contract says.
func TestErrno(t *testing.T) {
	m := mount(t)
	for flag, want := range map[string]error{"denied": syscall.EACCES, "failing": syscall.EIO} {
		m.set(flag, "")
		if _, err := os.ReadFile(m.path(credential)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", flag, err, want)
		}
		m.clear(flag)
	}
	if err := os.WriteFile(m.path("x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.set("unused", "")
	time.Sleep(1100 * time.Millisecond) // the entry of x may be cached for a second
	if _, err := os.ReadFile(m.path("x")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("state file for a caller that the gate refuses: %v", err)
	}
}

// A token must not come to rest in a state file, however it is written.
func TestScreen(t *testing.T) {
	m := mount(t)
	const token = "sk-ant-oat01-served-to-this-tree"
	if err := os.WriteFile(m.path("a"), []byte("x"+token), 0o600); !errors.Is(err, os.ErrPermission) {
		t.Errorf("in one write: %v", err)
	}
	f, err := os.Create(m.path("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var last error
	for _, c := range []byte(token) {
		if _, last = f.Write([]byte{c}); last != nil {
			break
		}
	}
	if !errors.Is(last, os.ErrPermission) {
		t.Errorf("byte by byte: %v", last)
	}
	if b, _ := os.ReadFile(m.path("b")); bytes.Contains(b, []byte("served")) && len(b) >= len(token) {
		t.Error("the whole token is there")
	}
	if err := os.WriteFile(m.path("c"), []byte("harmless"), 0o600); err != nil {
		t.Errorf("harmless text: %v", err)
	}
}

// Handles that a client leaves open are bounded by memory, for its own tree alone, and are given back.
func TestHandlesAreBounded(t *testing.T) {
	m := mount(t)
	var open []*os.File
	for range 100 {
		f, err := os.OpenFile(m.path(credential), os.O_WRONLY, 0)
		if err != nil {
			if !errors.Is(err, syscall.ENFILE) {
				t.Fatal(err)
			}
			break
		}
		open = append(open, f)
	}
	if len(open) < 10 || len(open) > 40 {
		t.Errorf("%d writers could be opened at once", len(open))
	}
	for _, f := range open {
		_ = f.Close()
	}
	for range 100 { // RELEASE comes after close has returned
		if _, err := os.ReadFile(m.path(credential)); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("closed handles were not given back")
}

// Attributes such as "immutable" are the operator's.
func TestNoIoctl(t *testing.T) {
	m := mount(t)
	f, err := os.Create(m.path("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0x10); err == nil {
		t.Error("FS_IOC_SETFLAGS was accepted")
	}
}

// A draft that lost its name holds nothing any more, however long it stays open.
func TestRemovedDraftTakesNothing(t *testing.T) {
	m := mount(t)
	f, err := os.Create(m.path(draft))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(m.path(draft)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 100)); err == nil {
		t.Error("a removed draft was written")
	}
}

// A plain file must not come to a virtual name by an exchange.
func TestExchangeWithVirtualName(t *testing.T) {
	m := mount(t)
	dir, file := m.path(credential+".d"), m.path("plain")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(file, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][2]string{{dir, file}, {file, dir}} {
		if err := unix.Renameat2(unix.AT_FDCWD, names[0], unix.AT_FDCWD, names[1], unix.RENAME_EXCHANGE); err == nil {
			t.Errorf("%v were exchanged", names)
		}
	}
}
