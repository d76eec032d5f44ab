package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kept counts the files without a name that the next server would get for a tree.
func (m *mounted) kept(tree string) (n int) {
	m.t.Helper()
	for _, name := range (fileOrphans{filepath.Join(m.dir, "orphans")}).Names() {
		if strings.HasSuffix(name, "-"+tree) {
			n++
		}
	}
	return n
}

// deleteOpen makes a file of the tree and deletes it.
func (m *mounted) deleteOpen(tree string) *os.File {
	m.t.Helper()
	f, err := os.Create(filepath.Join(filepath.Dir(m.tree), tree, "deleted"))
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		m.t.Fatal(err)
	}
	return f
}

// One tree does not take all the places in which deleted open files outlive the server; and they are free again as soon
// as the files are closed.
func TestOrphansOfATreeAreBounded(t *testing.T) {
	m := mount(t)
	var open []*os.File
	for i := range 70 {
		f := m.deleteOpen("web")
		open = append(open, f)
		if _, err := fmt.Fprint(f, i); err != nil {
			t.Errorf("file %d goes on as on any file system: %v", i, err)
		}
	}
	if n := m.kept("web"); n != 64 {
		t.Errorf("%d are kept, want 64", n)
	}
	other := m.deleteOpen("api")
	defer other.Close()
	if n := m.kept("api"); n != 1 {
		t.Errorf("%d of the other tree are kept, want 1", n)
	}
	for _, f := range open {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	m.awaitNone("web")
}

// A file whose name goes to another one is kept as long as somebody may come to it who looked the name up before.
func TestReplacedFileIsKept(t *testing.T) {
	m := mount(t)
	write(t, m.path("file"), "old")
	resolved, err := unix.Open(m.path("file"), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.path("new"), "new")
	if err := os.Rename(m.path("new"), m.path("file")); err != nil {
		t.Fatal(err)
	}
	if n := m.kept("web"); n != 1 {
		t.Errorf("%d are kept, want 1", n)
	}
	if err := unix.Close(resolved); err != nil {
		t.Fatal(err)
	}
	m.awaitNone("web")
	// Nobody keeps these in use; and one that has another name is found by that.
	for i := range 100 {
		write(t, m.path("new"), fmt.Sprint(i))
		if err := os.Rename(m.path("new"), m.path("file")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(m.path("file"), m.path("other")); err != nil {
		t.Fatal(err)
	}
	write(t, m.path("new"), "newer")
	if err := os.Rename(m.path("new"), m.path("file")); err != nil {
		t.Fatal(err)
	}
	m.awaitNone("web")
}

// awaitNone waits until none is kept; the kernel does not wait for an answer to FORGET and RELEASE.
func (m *mounted) awaitNone(tree string) {
	m.t.Helper()
	for end := time.Now().Add(5 * time.Second); m.kept(tree) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("%d are kept for nobody", m.kept(tree))
		}
	}
}
