package fs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the client does to its other files: tmp + rename under a lock directory, link, appends on two descriptors,
// copies by copy_file_range, a symlink that is replaced, a directory listing.
func TestClientFiles(t *testing.T) {
	m := mount(t)
	t.Run("claude.json", func(t *testing.T) { replaceUnderLock(t, m) })
	t.Run("jsonl", func(t *testing.T) { appendTwice(t, m) })
	t.Run("backup", func(t *testing.T) { backup(t, m) })
	t.Run("latest", func(t *testing.T) { latest(t, m) })
	t.Run("listing", func(t *testing.T) { listed(t, m) })
}

func replaceUnderLock(t *testing.T, m *mounted) {
	file, tmp, l := m.path(".claude.json"), m.path(".claude.json.tmp.1.abc"), m.path(".claude.json.lock")
	for i := range 20 {
		want := bytes.Repeat([]byte{byte('a' + i)}, 100+i)
		if err := os.Mkdir(l, 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, werr := f.Write(want)
		if err := errors.Join(werr, f.Chmod(0o600), f.Sync(), f.Close(), os.Rename(tmp, file), os.Remove(l)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: %q, %v", i, got, err)
		}
	}
	if err := os.Link(file, m.path("linked")); err != nil {
		t.Errorf("link: %v", err)
	}
}

func appendTwice(t *testing.T, m *mounted) {
	dir := m.path("projects/-tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "session.jsonl")
	var want []byte
	a, err1 := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	b, err2 := os.OpenFile(file, os.O_APPEND|os.O_RDWR, 0o600)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		line := append(bytes.Repeat([]byte{byte('0' + i%10)}, i), '\n')
		want = append(want, line...)
		if _, err := []*os.File{a, b}[i%2].Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(a.Sync(), a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
	}
}

func backup(t *testing.T, m *mounted) {
	if err := os.MkdirAll(m.path("backups"), 0o700); err != nil {
		t.Fatal(err)
	}
	src, err1 := os.Open(m.path(".claude.json"))
	dst, err2 := os.OpenFile(m.path("backups/.claude.json.backup.1"), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	defer dst.Close()
	if err := unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())); err == nil {
		t.Log("FICLONE works here")
	}
	n, err := unix.CopyFileRange(int(src.Fd()), nil, int(dst.Fd()), nil, 1<<20, 0)
	if err != nil {
		t.Fatalf("copy_file_range: %v", err)
	}
	want, _ := os.ReadFile(m.path(".claude.json"))
	got, err := os.ReadFile(dst.Name())
	if err != nil || n != len(want) || !bytes.Equal(got, want) {
		t.Errorf("copied %d bytes, read %d, want %d: %v", n, len(got), len(want), err)
	}
}

func latest(t *testing.T, m *mounted) {
	if err := os.MkdirAll(m.path("debug"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"one.txt", "two.txt"} {
		_ = os.Remove(m.path("debug/latest"))
		if err := os.Symlink(target, m.path("debug/latest")); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(m.path("debug/latest")); err != nil || got != target {
			t.Errorf("readlink: %q %v", got, err)
		}
	}
}

func listed(t *testing.T, m *mounted) {
	entries, err := os.ReadDir(m.tree)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, want := range []string{".claude.json", credential, "projects", "backups", "debug"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not listed in %v", want, names)
		}
	}
	var st syscall.Stat_t
	if err := syscall.Stat(m.tree, &st); err != nil || st.Mode&0o7777 != 0o700 || int(st.Uid) != os.Getuid() {
		t.Errorf("top directory: mode %o uid %d: %v", st.Mode, st.Uid, err)
	}
	if err := unix.Setxattr(m.path(".claude.json"), "user.x", []byte("y"), 0); !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("setxattr: %v, want EOPNOTSUPP", err)
	}
	if _, err := unix.InotifyInit1(0); err != nil {
		t.Fatal(err)
	}
}

// A deleted file that is still open can be changed through its descriptor.
func TestDeletedOpenFile(t *testing.T) {
	m := mount(t)
	f, err := os.Create(m.path("gone"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(m.path("gone")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Chmod(0o640), f.Truncate(10)); err != nil {
		t.Error(err)
	}
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o640 || st.Size() != 10 {
		t.Errorf("got %v %v", st, err)
	}
}
