package fs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// whileRenaming runs each of use again and again while rename is, and counts what fails.
func whileRenaming(t *testing.T, rounds int, rename func(round int) error, use map[string]func() error) {
	t.Helper()
	var done atomic.Bool
	var wg sync.WaitGroup
	for name, f := range use {
		wg.Go(func() {
			failed, n := 0, 0
			var last error
			for ; !done.Load(); n++ {
				if err := f(); err != nil {
					failed, last = failed+1, err
				}
			}
			if failed > 0 || n == 0 {
				t.Errorf("%s: %d of %d failed, the last with %v", name, failed, n, last)
			}
		})
	}
	for i := range rounds {
		if err := rename(i); err != nil {
			t.Errorf("rename %d: %v", i, err)
			break
		}
	}
	done.Store(true)
	wg.Wait()
}

// Whoever is in a directory stays there while it gets another name.
func TestDirectoryRenamedUnderUse(t *testing.T) {
	m := mount(t)
	if err := errors.Join(os.MkdirAll(m.path("a/sub"), 0o755), os.WriteFile(m.path("a/sub/file"), []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open(m.path("a/sub"), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	names := []string{m.path("a"), m.path("b")}
	whileRenaming(t, 2000, func(i int) error { return os.Rename(names[i%2], names[1-i%2]) }, map[string]func() error{
		"open": func() error {
			fd, err := unix.Openat(dir, "file", unix.O_RDONLY, 0)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		},
		"create": func() error {
			fd, err := unix.Openat(dir, "new", unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o644)
			if err != nil {
				return fmt.Errorf("create: %w", err)
			}
			if err := errors.Join(unix.Close(fd), unix.Unlinkat(dir, "new", 0)); err != nil {
				return fmt.Errorf("unlink: %w", err)
			}
			return nil
		},
		"mkdir": func() error {
			return errors.Join(unix.Mkdirat(dir, "d", 0o755), unix.Unlinkat(dir, "d", unix.AT_REMOVEDIR))
		},
		"rename": func() error {
			return errors.Join(unix.Mknodat(dir, "one", unix.S_IFREG|0o644, 0), unix.Renameat(dir, "one", dir, "two"), unix.Unlinkat(dir, "two", 0))
		},
		"list": func() error {
			list, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", dir))
			if err == nil && len(list) == 0 {
				err = errors.New("nothing is listed")
			}
			return err
		},
		"stat": func() error {
			var st unix.Stat_t
			return unix.Fstatat(dir, "file", &st, 0)
		},
		"chmod": func() error { return unix.Fchmodat(dir, "file", 0o600, 0) },
	})
}

// A name that is replaced by rename is there all the time.
func TestFileReplacedUnderUse(t *testing.T) {
	m := mount(t)
	if err := os.WriteFile(m.path("settings"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	whileRenaming(t, 2000, func(i int) error {
		return errors.Join(os.WriteFile(m.path("new"), []byte("x"), 0o644), os.Rename(m.path("new"), m.path("settings")))
	}, map[string]func() error{
		"read":   func() error { _, err := os.ReadFile(m.path("settings")); return err },
		"stat":   func() error { _, err := os.Stat(m.path("settings")); return err },
		"chmod":  func() error { return os.Chmod(m.path("settings"), 0o644) },
		"access": func() error { return unix.Access(m.path("settings"), unix.R_OK) },
	})
}

// Who resolved a name before it went goes on with the file.
func TestFileWithoutName(t *testing.T) {
	m := mount(t)
	if err := errors.Join(os.Mkdir(m.path("dir"), 0o755), os.WriteFile(m.path("file"), []byte("old"), 0o644)); err != nil {
		t.Fatal(err)
	}
	dir, err1 := unix.Open(m.path("dir"), unix.O_PATH, 0)
	file, err2 := unix.Open(m.path("file"), unix.O_PATH, 0)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	defer unix.Close(file)
	if err := errors.Join(os.WriteFile(m.path("new"), []byte("newer"), 0o644), os.Rename(m.path("new"), m.path("file")), os.Remove(m.path("dir"))); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // attributes are asked for again
	if b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", file)); err != nil || string(b) != "old" {
		t.Errorf("replaced file: got %q %v", b, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(file, &st); err != nil || st.Size != 3 || st.Nlink != 0 {
		t.Errorf("replaced file: %d bytes, %d links, %v", st.Size, st.Nlink, err)
	}
	if err := unix.Fstat(dir, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("removed directory: mode %o, %v", st.Mode, err)
	}
	if err := unix.Mkdirat(dir, "x", 0o755); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a directory in a removed one: %v", err)
	}
}

// A file that the host puts in another's place is seen as a file of its own.
func TestFileReplacedOnHost(t *testing.T) {
	m := mount(t)
	if _, err := os.ReadDir(m.tree); err != nil { // makes the state directory
		t.Fatal(err)
	}
	host := filepath.Join(m.dir, "state-web", "file")
	var before *os.File
	for i := range 20 {
		want := fmt.Sprintf("%02d", i)
		if err := errors.Join(os.WriteFile(host+".new", []byte(want), 0o644), os.Rename(host+".new", host)); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(m.path("file"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if b, err := io.ReadAll(f); err != nil || string(b) != want {
			t.Fatalf("got %q %v, want %q", b, err, want)
		}
		if before != nil {
			b := make([]byte, 2)
			if _, err := before.ReadAt(b, 0); err != nil || string(b) != fmt.Sprintf("%02d", i-1) {
				t.Fatalf("who had file %d open reads %q %v", i-1, b, err)
			}
		}
		before = f
	}
}

// The settings that a tree has of the host's are removed on the host while the tree is listed and changed. A listing looks
// up what it has read before, and makes them again; it must not wait there for a rename that waits for it.
func TestSettingsMadeWhileListing(t *testing.T) {
	m := mount(t)
	m.set("base", "a host's base;")
	if err := os.MkdirAll(m.path("sub/0"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := os.WriteFile(m.path(fmt.Sprintf("file-%d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list := func() error { _, err := os.ReadDir(m.tree); return err }
	whileRenaming(t, 3000, func(i int) error { return os.Rename(m.path(fmt.Sprint("sub/", i)), m.path(fmt.Sprint("sub/", i+1))) }, map[string]func() error{
		"list":       list,
		"list again": list,
		"remove":     func() error { return noneIsFine(os.Remove(filepath.Join(m.dir, "state-web", "settings.json"))) },
		"read": func() error {
			b, err := os.ReadFile(m.path("settings.json"))
			if err == nil && string(b) != "a host's base;" {
				err = fmt.Errorf("got %q", b)
			}
			return noneIsFine(err)
		},
	})
}

func noneIsFine(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESTALE) {
		return nil
	}
	return err
}
