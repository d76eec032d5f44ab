package serve

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
)

// dying is a file system whose process ends over a changing request, before or after it was carried out.
type dying struct {
	fuse.RawFileSystem
	before, after bool
}

type death struct{}

func (d *dying) over(do func() fuse.Status) fuse.Status {
	if d.before {
		panic(death{})
	}
	st := do()
	if d.after {
		panic(death{})
	}
	return st
}

func (d *dying) Unlink(c <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return d.over(func() fuse.Status { return d.RawFileSystem.Unlink(c, h, name) })
}

func (d *dying) Rmdir(c <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return d.over(func() fuse.Status { return d.RawFileSystem.Rmdir(c, h, name) })
}

func (d *dying) Mkdir(c <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return d.over(func() fuse.Status { return d.RawFileSystem.Mkdir(c, in, name, out) })
}

func (d *dying) Link(c <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return d.over(func() fuse.Status { return d.RawFileSystem.Link(c, in, name, out) })
}

func (d *dying) Rename(c <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	return d.over(func() fuse.Status { return d.RawFileSystem.Rename(c, in, from, to) })
}

// servers are the shims of a server and its successor over one directory.
type servers struct {
	t      *testing.T
	dir    string
	ledger *ledger.Ledger
	fs     *dying
	shim   *shim
}

func newServers(t *testing.T) *servers {
	t.Helper()
	l, err := ledger.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &servers{t: t, dir: t.TempDir(), ledger: l}
	s.start()
	return s
}

func (s *servers) start() {
	s.t.Helper()
	root, err := fusefs.NewLoopbackRoot(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	s.fs = &dying{RawFileSystem: fusefs.NewNodeFS(root, &fusefs.Options{})}
	s.shim = newShim(&Config{FS: s.fs, Ledger: s.ledger, Log: slog.New(slog.DiscardHandler)}, true)
}

func (s *servers) path(name string) string { return filepath.Join(s.dir, name) }

func (s *servers) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *servers) remove(name string) {
	s.t.Helper()
	if err := os.Remove(s.path(name)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *servers) lookup(name string) uint64 {
	s.t.Helper()
	var out fuse.EntryOut
	if st := s.shim.Lookup(nil, &fuse.InHeader{NodeId: rootID, Unique: 2}, name, &out); st != fuse.OK {
		s.t.Fatal(st)
	}
	return out.NodeId
}

const unique = 100

func header(id uint64) fuse.InHeader { return fuse.InHeader{NodeId: rootID, Unique: id} }

// repeat sends a request to a server that dies over it, lets the host do something, and sends it to the next server.
func (s *servers) repeat(when string, op func(fuse.InHeader) fuse.Status, meanwhile func()) fuse.Status {
	s.t.Helper()
	s.fs.before, s.fs.after = when == "before", when == "after"
	func() {
		defer func() {
			if v := recover(); v != (death{}) && when != "answered" {
				s.t.Fatalf("the server ended with %v", v)
			}
		}()
		if st := op(header(unique)); st != fuse.OK {
			s.t.Fatal(st)
		}
	}()
	meanwhile()
	s.start()
	return op(header(unique | resent))
}

func TestRepeatedRemoval(t *testing.T) {
	for name, c := range map[string]struct {
		when  string
		again bool // somebody makes the name again meanwhile
		want  string
	}{
		"not done":                      {"before", false, ""},
		"done":                          {"after", false, ""},
		"done, and made again":          {"after", true, "another"},
		"done and noted":                {"answered", false, ""},
		"done and noted, made again":    {"answered", true, "another"},
		"not done, and another instead": {"before", true, "another"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t)
			s.write("file", "one")
			s.lookup("file")
			st := s.repeat(c.when, func(h fuse.InHeader) fuse.Status { return s.shim.Unlink(nil, &h, "file") }, func() {
				if c.again {
					s.write("new", "another")
					if err := os.Rename(s.path("new"), s.path("file")); err != nil {
						t.Fatal(err)
					}
				}
			})
			got, _ := os.ReadFile(s.path("file"))
			if st != fuse.OK || string(got) != c.want {
				t.Errorf("got %v and %q, want %q", st, got, c.want)
			}
		})
	}
}

func TestRepeatedRename(t *testing.T) {
	for name, c := range map[string]struct {
		when  string
		again bool
	}{
		"not done": {"before", false}, "done": {"after", false}, "done, and made again": {"after", true}, "noted": {"answered", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t)
			s.write("from", "one")
			s.lookup("from")
			st := s.repeat(c.when, func(h fuse.InHeader) fuse.Status {
				return s.shim.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: rootID}, "from", "to")
			}, func() {
				if c.again {
					s.write("from", "another")
				}
			})
			to, err := os.ReadFile(s.path("to"))
			if st != fuse.OK || err != nil || string(to) != "one" {
				t.Errorf("got %v, and %q %v under the new name", st, to, err)
			}
			if from, _ := os.ReadFile(s.path("from")); c.again != (string(from) == "another") {
				t.Errorf("the old name has %q", from)
			}
		})
	}
}

func TestRepeatedExchange(t *testing.T) {
	for _, when := range []string{"before", "after", "answered"} {
		t.Run(when, func(t *testing.T) {
			s := newServers(t)
			s.write("a", "one")
			s.write("b", "two")
			s.lookup("a")
			s.lookup("b")
			st := s.repeat(when, func(h fuse.InHeader) fuse.Status {
				return s.shim.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: rootID, Flags: renameExchange}, "a", "b")
			}, func() {})
			if got, err := os.ReadFile(s.path("a")); st != fuse.OK || err != nil || string(got) != "two" {
				t.Errorf("got %v, and %q %v", st, got, err)
			}
		})
	}
}

// A directory is this request's own work only if it can be.
func TestRepeatedMkdir(t *testing.T) {
	for name, c := range map[string]struct {
		when string
		host func(*servers)
		want fuse.Status
	}{
		"not done":                   {"before", func(*servers) {}, fuse.OK},
		"done":                       {"after", func(*servers) {}, fuse.OK},
		"a file has the name":        {"before", func(s *servers) { s.write("dir", "") }, exists},
		"another's directory has it": {"before", func(s *servers) { s.mkdirAs("dir", 1234) }, exists},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t)
			var out fuse.EntryOut
			got := s.repeat(c.when, func(h fuse.InHeader) fuse.Status {
				h.Uid = uint32(os.Geteuid())
				return s.shim.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, "dir", &out)
			}, func() { c.host(s) })
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got == fuse.OK && out.Attr.Mode&syscall.S_IFMT != syscall.S_IFDIR {
				t.Errorf("got mode %o", out.Attr.Mode)
			}
		})
	}
}

func (s *servers) mkdirAs(name string, uid int) {
	s.t.Helper()
	if err := os.Mkdir(s.path(name), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		s.t.Skip("needs root to give a directory away")
	}
	if err := os.Chown(s.path(name), uid, uid); err != nil {
		s.t.Fatal(err)
	}
}

// A name that another file has is EEXIST, not this request's link.
func TestRepeatedLink(t *testing.T) {
	for name, c := range map[string]struct {
		when string
		host func(*servers)
		want fuse.Status
	}{
		"not done":              {"before", func(*servers) {}, fuse.OK},
		"done":                  {"after", func(*servers) {}, fuse.OK},
		"another file has it":   {"before", func(s *servers) { s.write("link", "another") }, exists},
		"done, and was removed": {"after", func(s *servers) { s.remove("link") }, fuse.OK},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t)
			s.write("file", "one")
			file := s.lookup("file")
			var out fuse.EntryOut
			got := s.repeat(c.when, func(h fuse.InHeader) fuse.Status {
				return s.shim.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: file}, "link", &out)
			}, func() { c.host(s) })
			if got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if got == fuse.OK && out.NodeId != file {
				t.Errorf("the link is node %d, the file is %d", out.NodeId, file)
			}
		})
	}
}
