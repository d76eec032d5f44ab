package fs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/fs"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// onDisk is a file of the tree as it lies in its state directory.
func (m *mounted) onDisk(name string) string {
	m.t.Helper()
	return read(m.t, filepath.Join(m.dir, "state-web", name))
}

// Readers are shown the file without what diverts, whatever way it came to its name; it stays on disk as written.
func TestSettingsAreShownFiltered(t *testing.T) {
	m := mount(t)
	for _, name := range fs.SettingsFiles {
		write(t, m.path(name), "good EVIL bad")
		wantShown(t, m, name, "good  bad")
		if got := m.onDisk(name); got != "good EVIL bad" {
			t.Errorf("%s: %q on disk", name, got)
		}
	}
	write(t, m.path("other.json"), "EVIL")
	if got := read(t, m.path("other.json")); got != "EVIL" {
		t.Errorf("another file reads %q", got)
	}
	if err := os.Mkdir(m.path("below"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, m.path("below/settings.json"), "EVIL")
	if got := read(t, m.path("below/settings.json")); got != "EVIL" {
		t.Errorf("a file below reads %q", got)
	}
}

func wantShown(t *testing.T, m *mounted, name, want string) {
	t.Helper()
	if got := read(t, m.path(name)); got != want {
		t.Errorf("%s reads %q, want %q", name, got, want)
	}
	if st, err := os.Stat(m.path(name)); err != nil || st.Size() < int64(len(want)) {
		t.Errorf("%s: size %v %v, want %d at least", name, st, err, len(want))
	}
}

func TestSettingsByOtherWays(t *testing.T) {
	for _, way := range []struct {
		name string
		do   func(m *mounted) error
	}{
		{"rename", func(m *mounted) error { return os.Rename(m.path("x"), m.path("settings.json")) }},
		{"rename from below", func(m *mounted) error {
			return errors.Join(os.Mkdir(m.path("d"), 0o755), os.Rename(m.path("x"), m.path("d/x")), os.Rename(m.path("d/x"), m.path("settings.json")))
		}},
		{"link", func(m *mounted) error { return os.Link(m.path("x"), m.path("settings.json")) }},
		{"exchange", func(m *mounted) error {
			write(m.t, m.path("settings.json"), "good")
			return unix.Renameat2(unix.AT_FDCWD, m.path("x"), unix.AT_FDCWD, m.path("settings.json"), unix.RENAME_EXCHANGE)
		}},
		{"exchange, from it", func(m *mounted) error {
			write(m.t, m.path("settings.json"), "good")
			return unix.Renameat2(unix.AT_FDCWD, m.path("settings.json"), unix.AT_FDCWD, m.path("x"), unix.RENAME_EXCHANGE)
		}},
		{"written by a linked name", func(m *mounted) error {
			write(m.t, m.path("settings.json"), "good")
			err := os.Link(m.path("settings.json"), m.path("y"))
			write(m.t, m.path("y"), "a EVIL b")
			return err
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			m := mount(t)
			write(t, m.path("x"), "a EVIL b")
			if err := way.do(m); err != nil {
				t.Fatal(err)
			}
			wantShown(t, m, "settings.json", "a  b")
		})
	}
}

// Fail closed: what is no regular file leads past the filter.
func TestSettingsAreRegularFiles(t *testing.T) {
	m := mount(t)
	write(t, m.path("target"), "EVIL")
	at := m.path("settings.json")
	if err := errors.Join(os.Symlink("target", m.path("link")), unix.Mkfifo(m.path("fifo"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"symlink": os.Symlink("target", at), "fifo": unix.Mkfifo(at, 0o644), "socket": unix.Mknod(at, syscall.S_IFSOCK|0o644, 0),
		"rename symlink": os.Rename(m.path("link"), at), "rename fifo": os.Rename(m.path("fifo"), at),
		"link symlink": os.Link(m.path("link"), at), "link fifo": os.Link(m.path("fifo"), at),
	} {
		if !errors.Is(err, syscall.EACCES) {
			t.Errorf("%s: %v, want EACCES", what, err)
		}
	}
	write(t, at, "good")
	if err := unix.Renameat2(unix.AT_FDCWD, at, unix.AT_FDCWD, m.path("fifo"), unix.RENAME_EXCHANGE); !errors.Is(err, syscall.EACCES) {
		t.Errorf("exchange with a fifo: %v, want EACCES", err)
	}
}

// Fail closed: one that was there before leads nowhere, and can be removed.
func TestSettingsSymlinkOfBefore(t *testing.T) {
	m := mount(t)
	write(t, m.path("target"), "EVIL")
	state := filepath.Join(m.dir, "state-web")
	if err := errors.Join(os.Symlink("target", filepath.Join(state, "settings.json")), unix.Mkfifo(filepath.Join(state, ".config.json"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"settings.json", ".config.json"} {
		fd, err := unix.Open(m.path(name), unix.O_RDONLY|unix.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.EACCES) {
			t.Errorf("%s: %d %v, want EACCES", name, fd, err)
		}
	}
	if err := os.Remove(m.path("settings.json")); err != nil {
		t.Error(err)
	}
}

// What is written after the look at a file is not shown.
func TestSettingsOpenIsASnapshot(t *testing.T) {
	m := mount(t)
	write(t, m.path("settings.json"), "good ")
	f, err := os.Open(m.path("settings.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write(t, m.path("settings.json"), "EVIL!")
	buf := make([]byte, 64)
	if n, _ := f.Read(buf); string(buf[:n]) != "good " {
		t.Errorf("read %q", buf[:n])
	}
	// One who made the file for reading sees nothing of it either.
	c, err := os.OpenFile(m.path(".config.json"), os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write(t, m.path(".config.json"), "EVIL!")
	if n, _ := c.Read(buf); n != 0 {
		t.Errorf("read %q", buf[:n])
	}
}

// A base is there without a file of the tree's, and does not become part of one.
func TestSettingsOverBase(t *testing.T) {
	m := mount(t)
	m.set("base", "host;")
	wantShown(t, m, "settings.json", "host;")
	write(t, m.path("settings.json.tmp.1.abc"), "host;mine")
	if err := os.Rename(m.path("settings.json.tmp.1.abc"), m.path("settings.json")); err != nil {
		t.Fatal(err)
	}
	wantShown(t, m, "settings.json", "host;mine")
	if got := m.onDisk("settings.json"); got != "mine" {
		t.Errorf("%q on disk, want the tree's part alone", got)
	}
	if err := os.Remove(m.path("settings.json")); err != nil {
		t.Fatal(err)
	}
	wantShown(t, m, "settings.json", "host;")
}

func TestSettingsLocked(t *testing.T) {
	m := mount(t)
	m.set("base", "host;")
	m.set("locked", "")
	at := m.path("settings.json")
	wantShown(t, m, "settings.json", "host;")
	write(t, m.path("x"), "mine")
	_, writing := os.OpenFile(at, os.O_WRONLY, 0)
	_, both := os.OpenFile(at, os.O_RDWR, 0)
	for what, err := range map[string]error{
		"write": writing, "read and write": both, "truncate": os.Truncate(at, 0), "chmod": os.Chmod(at, 0o600), "remove": os.Remove(at),
		"rename over": os.Rename(m.path("x"), at), "rename away": os.Rename(at, m.path("y")), "access": unix.Access(at, unix.W_OK),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
	write(t, m.path(".claude.json"), "mine")
	wantShown(t, m, "settings.json", "host;")
}

// Who resolved the name before another file got it is not shown what is not filtered.
func TestReplacedSettingsStayFiltered(t *testing.T) {
	m := mount(t)
	write(t, m.path("settings.json"), "EVIL")
	resolved, err := unix.Open(m.path("settings.json"), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(resolved)
	write(t, m.path("new"), "good")
	if err := os.Rename(m.path("new"), m.path("settings.json")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", resolved)); err != nil || len(b) != 0 {
		t.Errorf("the replaced file reads %q %v", b, err)
	}
	// One that was renamed to the name, and replaced before anybody opened it.
	write(t, m.path("late"), "EVIL")
	late, err := unix.Open(m.path("late"), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(late)
	write(t, m.path("new"), "good")
	if err := errors.Join(os.Rename(m.path("late"), m.path("settings.json")), os.Rename(m.path("new"), m.path("settings.json"))); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", late)); err != nil || len(b) != 0 {
		t.Errorf("the second replaced file reads %q %v", b, err)
	}
}

// Who resolved a name whose file the host replaced is told to look again, not that there is none.
func TestSettingsReplacedOnHost(t *testing.T) {
	m := mount(t)
	for _, name := range []string{"settings.json", "other.json"} {
		write(t, m.path(name), "good")
		resolved, err := unix.Open(m.path(name), unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(resolved)
		host := filepath.Join(m.dir, "state-web", name)
		if err := errors.Join(os.WriteFile(host+".new", []byte("good"), 0o644), os.Rename(host+".new", host)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // attributes are asked for again
		var st unix.Stat_t
		if err := unix.Fstat(resolved, &st); !errors.Is(err, unix.ESTALE) {
			t.Errorf("%s: fstat: %v, want ESTALE", name, err)
		}
		if _, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", resolved)); !errors.Is(err, unix.ESTALE) {
			t.Errorf("%s: open: %v, want ESTALE", name, err)
		}
		if b, err := os.ReadFile(m.path(name)); err != nil || string(b) != "good" {
			t.Errorf("%s: by its name: %q %v", name, b, err)
		}
	}
}

// Who writes a settings file goes on with it when it has no name any more.
func TestSettingsWriterOutlivesTheName(t *testing.T) {
	m := mount(t)
	f, err := os.Create(m.path("settings.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	host := filepath.Join(m.dir, "state-web", "settings.json")
	if err := errors.Join(os.WriteFile(host+".new", []byte("good"), 0o644), os.Rename(host+".new", host)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("four"); err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 4 {
		t.Errorf("stat: %v %v", st, err)
	}
	if err := f.Truncate(2); err != nil {
		t.Errorf("truncate: %v", err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 2 {
		t.Errorf("stat after truncate: %v %v", st, err)
	}
}

// What is appended goes to the end of the file as it is, not as it is shown.
func TestSettingsAppend(t *testing.T) {
	m := mount(t)
	write(t, m.path("settings.json"), "good EVIL bad")
	for i := range 20 {
		f, err := os.OpenFile(m.path("settings.json"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"x", "y"} {
			if _, err := os.Stat(m.path("settings.json")); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := m.onDisk("settings.json"), "good EVIL bad"+strings.Repeat("xy", i+1); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	m.set("base", "a host's base that is longer than what is stripped;")
	if f, err := os.OpenFile(m.path("settings.json"), os.O_WRONLY|os.O_APPEND, 0); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("where more is shown than there is: %v %v", f, err)
	}
}
