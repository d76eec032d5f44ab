package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/policy"
)

const minimal = "version: 1\nrules:\n  - {name: r, match: {container: {}}, allow: {level: shared}}\n"

// Fail closed: a policy that others can change is nobody's policy.
func TestLoadRefusesWhatOthersMayChange(t *testing.T) {
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
			_, err := policy.Load(file)
			if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, policy.ErrExposed) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s %s: got %v", c.name, below, err)
			}
		}
	}
}

// A symlink is judged by where it is and by where it leads.
func TestLoadJudgesSymlinks(t *testing.T) {
	closed, open := filepath.Join(t.TempDir(), "closed"), filepath.Join(t.TempDir(), "open")
	targets := []string{write(t, closed, 0o600, 0o755), write(t, open, 0o600, 0o777)}
	for i, link := range []string{filepath.Join(open, "link"), filepath.Join(closed, "link")} {
		if err := os.Symlink(targets[i], link); err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Load(link); !errors.Is(err, policy.ErrExposed) || !strings.Contains(err.Error(), open+" has mode") {
			t.Errorf("%s: got %v", link, err)
		}
	}
}

func TestLoadRefusesAnothersFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	file := write(t, filepath.Join(t.TempDir(), "d"), 0o600, 0o755)
	for _, path := range []string{file, filepath.Dir(file)} {
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Load(file); !errors.Is(err, policy.ErrExposed) || !strings.Contains(err.Error(), path+" is uid 12345's") {
			t.Errorf("%s: got %v", path, err)
		}
		if err := os.Chown(path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
}

// write makes a policy in a directory, with these modes whatever the umask.
func write(t *testing.T, dir string, fileMode, dirMode os.FileMode) string {
	t.Helper()
	file := filepath.Join(dir, "policy.yaml")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(file, []byte(minimal), 0o600), os.Chmod(file, fileMode), os.Chmod(dir, dirMode)); err != nil {
		t.Fatal(err)
	}
	return file
}
