package fs_test

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// The API key is there for readers that may have it, and nobody can put a file in its place.
func TestKeyFile(t *testing.T) {
	m := mount(t)
	at := m.path(".api-key")
	if _, err := os.Stat(at); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("without a key: %v", err)
	}
	write(t, m.path("x"), "x")
	refused := func() {
		t.Helper()
		_, open := os.OpenFile(at, os.O_WRONLY|os.O_CREATE, 0o600)
		for what, err := range map[string]error{
			"create": open, "mkdir": os.Mkdir(at, 0o700), "symlink": os.Symlink("x", at), "link": os.Link(m.path("x"), at), "rename": os.Rename(m.path("x"), at),
		} {
			if err == nil {
				t.Errorf("%s went through", what)
			}
		}
	}
	refused()
	write(t, m.path(draft), "login")
	if err := os.Rename(m.path(draft), at); !errors.Is(err, syscall.EXDEV) {
		t.Errorf("a draft was renamed: %v", err)
	}
	m.set("key", "sk-ant-api03-x\n")
	refused()
	if got := read(t, at); got != "sk-ant-api03-x\n" {
		t.Errorf("read %q", got)
	}
	if err := os.Remove(at); !errors.Is(err, syscall.EACCES) {
		t.Errorf("remove: %v", err)
	}
	m.set("denied", "")
	if _, err := os.ReadFile(at); !errors.Is(err, syscall.EACCES) {
		t.Errorf("denied: %v", err)
	}
}
