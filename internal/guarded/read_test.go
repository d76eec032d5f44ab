package guarded_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/guarded"
)

const content = "version: 1\n"

// Fail closed: a file that others can change is nobody's word.
func TestReadFileRefusesWhatOthersMayChange(t *testing.T) {
	for _, c := range []struct {
		name      string
		file, dir os.FileMode
		want      string // "" is loaded
	}{
		{"closed", 0o644, 0o755, ""},
		{"group", 0o664, 0o755, "has mode 0664, so that its group may write: chmod go-w "},
		{"everybody", 0o602, 0o755, "has mode 0602, so that everybody may write: chmod go-w "},
		{"both", 0o666, 0o755, "its group and everybody may write"},
		{"directory of a group", 0o600, 0o770, "has mode 0770, so that its group may write: chmod go-w "},
		{"directory of everybody", 0o600, 0o777, "may write"},
		{"sticky directory", 0o600, 0o777 | os.ModeSticky, ""},
		{"writable file in a sticky directory", 0o666, 0o777 | os.ModeSticky, "has mode 0666"},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		file := write(t, dir, c.file, c.dir)
		for _, below := range []string{"", "deeper"} {
			if below != "" {
				file = write(t, filepath.Join(dir, below), c.file, 0o755)
			}
			_, err := guarded.ReadFile(file, 1<<20)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, guarded.ErrExposed) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s %s: got %v", c.name, below, err)
			}
		}
	}
}

// A symlink is judged by where it is and by where it leads.
func TestReadFileJudgesSymlinks(t *testing.T) {
	closed, open := filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "open")
	targets := []string{write(t, closed, 0o600, 0o755), write(t, open, 0o600, 0o777)}
	for i, link := range []string{filepath.Join(open, "link"), filepath.Join(closed, "link")} {
		if err := os.Symlink(targets[i], link); err != nil {
			t.Fatal(err)
		}
		if _, err := guarded.ReadFile(link, 1<<20); !errors.Is(err, guarded.ErrExposed) || !strings.Contains(err.Error(), open+" has mode") {
			t.Errorf("%s: got %v", link, err)
		}
	}
}

// What lies between the name and its end is on the way too: a link in a directory of everybody's, and another's link in a
// sticky one.
func TestReadFileJudgesEverySymlink(t *testing.T) {
	target := write(t, filepath.Join(t.TempDir(), "closed"), 0o600, 0o755)
	open, sticky := filepath.Join(t.TempDir(), "open"), filepath.Join(t.TempDir(), "sticky")
	write(t, open, 0o600, 0o777)
	write(t, sticky, 0o600, 0o777|os.ModeSticky)
	middle := func(dir string) (first string) {
		first = filepath.Join(filepath.Dir(target), "to-"+filepath.Base(dir))
		if err := errors.Join(os.Symlink(target, filepath.Join(dir, "middle")), os.Symlink(filepath.Join(dir, "middle"), first)); err != nil {
			t.Fatal(err)
		}
		return first
	}
	if _, err := guarded.ReadFile(middle(open), 1<<20); !errors.Is(err, guarded.ErrExposed) || !strings.Contains(err.Error(), open+" has mode") {
		t.Errorf("by an open directory: %v", err)
	}
	first := middle(sticky)
	if b, err := guarded.ReadFile(first, 1<<20); err != nil || string(b) != content {
		t.Errorf("by our link in a sticky directory: %q %v", b, err)
	}
	if err := os.Lchown(filepath.Join(sticky, "middle"), 12345, -1); err != nil {
		t.Skip("only root can give files away")
	}
	if _, err := guarded.ReadFile(first, 1<<20); !errors.Is(err, guarded.ErrExposed) || !strings.Contains(err.Error(), "middle is uid 12345's") {
		t.Errorf("by another's link in a sticky directory: %v", err)
	}
}

// Relative links are followed from where they are, and a loop ends.
func TestReadFileFollowsLinks(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "d"), 0o600, 0o755)
	dir := filepath.Dir(file)
	link := filepath.Join(dir, "link")
	if err := os.Symlink("../d/./"+filepath.Base(file), link); err != nil {
		t.Fatal(err)
	}
	if b, err := guarded.ReadFile(link, 4); err != nil || string(b) != content[:4] {
		t.Errorf("got %q %v", b, err)
	}
	if err := errors.Join(os.Remove(link), os.Symlink("link", link)); err != nil {
		t.Fatal(err)
	}
	if _, err := guarded.ReadFile(link, 4); err == nil {
		t.Error("a loop was read")
	}
}

func TestReadFileRefusesAnothersFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	file := write(t, filepath.Join(t.TempDir(), "d"), 0o600, 0o755)
	for _, path := range []string{file, filepath.Dir(file)} {
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := guarded.ReadFile(file, 1<<20); !errors.Is(err, guarded.ErrExposed) || !strings.Contains(err.Error(), path+" is uid 12345's") {
			t.Errorf("%s: got %v", path, err)
		}
		if err := os.Chown(path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
}

// write makes a file in a directory, with these modes whatever the umask.
func write(t *testing.T, dir string, fileMode, dirMode os.FileMode) string {
	t.Helper()
	file := filepath.Join(dir, "file.yaml")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(file, []byte(content), 0o600), os.Chmod(file, fileMode), os.Chmod(dir, dirMode)); err != nil {
		t.Fatal(err)
	}
	return file
}
