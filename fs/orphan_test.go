package fs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	for end := time.Now().Add(5 * time.Second); m.kept("web") > 0; time.Sleep(10 * time.Millisecond) { // RELEASE is not waited for
		if time.Now().After(end) {
			t.Fatalf("%d are kept for nobody", m.kept("web"))
		}
	}
}
