package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// fake is a /proc and a cgroup tree. Namespaces are files: two names of one file are one namespace, and there are no
// parents, so a namespace is within itself only.
type fake struct {
	t    *testing.T
	dir  string
	r    *Resolver
	pids int
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, dir: t.TempDir()}
	f.write("ns/host", "host")
	f.r = &Resolver{proc: proc{dir: filepath.Join(f.dir, "proc")}, hostPidns: f.inode("host"), cgroupMounts: []string{filepath.Join(f.dir, "cg")}}
	f.r.SetDevice(39) // 0:39
	return f
}

func (f *fake) write(name, text string) {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) inode(ns string) uint64 {
	f.t.Helper()
	f.write("ns/"+ns, ns)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(f.dir, "ns", ns), &st); err != nil {
		f.t.Fatal(err)
	}
	return st.Ino
}

// process adds a process in a namespace, with its number in it, and in a cgroup, and returns its pid.
func (f *fake) process(ns, number, cgroup string) uint32 {
	f.t.Helper()
	f.pids++
	dir := fmt.Sprintf("proc/%d/", f.pids)
	f.inode(ns)
	f.write(dir+"cgroup", "0::"+cgroup+"\n")
	f.write(dir+"status", fmt.Sprintf("Name:\tx\nNSpid:\t%d\t%s\n", f.pids, number))
	f.write(dir+"mountinfo", "500 499 0:39 /web /root/.claude rw - fuse.claudefs claudefs rw\n")
	f.write(dir+"ns/.keep", "")
	if err := os.Link(filepath.Join(f.dir, "ns", ns), filepath.Join(f.dir, dir, "ns/pid")); err != nil {
		f.t.Fatal(err)
	}
	procs := filepath.Join("cg", cgroup, "cgroup.procs")
	old, _ := os.ReadFile(filepath.Join(f.dir, procs))
	f.write(procs, string(old)+fmt.Sprintln(f.pids))
	return uint32(f.pids)
}

func (f *fake) resolve(pid uint32) (*Subject, error) {
	return f.r.Resolve(context.Background(), Caller{TID: pid})
}

func TestResolveFromFixtures(t *testing.T) {
	A, B := "/docker/"+idA, "/docker/"+idB
	for _, c := range []struct {
		name      string
		build     func(f *fake) uint32 // returns the caller
		container string
		host      bool
		want      error
	}{
		{"container", func(f *fake) uint32 { f.process("a", "1", A); return f.process("a", "7", A) }, idA, false, nil},
		{"its first process", func(f *fake) uint32 { return f.process("a", "1", A) }, idA, false, nil},
		{"below its cgroup", func(f *fake) uint32 { f.process("a", "1", A); return f.process("a", "7", A+"/sub") }, idA, false, nil},
		{"first process moved down", func(f *fake) uint32 { f.process("a", "1", A+"/init.scope"); return f.process("a", "7", A) }, idA, false, nil},
		{"host", func(f *fake) uint32 { return f.process("host", "", "/user.slice") }, "", true, nil},
		{"podman's monitor", func(f *fake) uint32 { return f.process("host", "", "/machine.slice/libpod-conmon-"+idA+".scope") }, "", true, nil},
		{"namespace without a runtime", func(f *fake) uint32 { return f.process("x", "1", "/user.slice") }, "pidns-", false, nil},
		{"foreigner in a container's cgroup", func(f *fake) uint32 { f.process("b", "1", B); return f.process("a", "7", B) }, "", false, ErrForged},
		{"foreigner's first process in it", func(f *fake) uint32 { f.process("b", "1", B); return f.process("a", "1", B) }, "", false, ErrForged},
		{"host process in it", func(f *fake) uint32 { f.process("b", "1", B); return f.process("host", "", B) }, "", false, ErrForged},
		{"foreigner beside a first process that moved down", func(f *fake) uint32 {
			f.process("b", "1", B+"/init.scope")
			return f.process("a", "7", B)
		}, "", false, ErrForged},
		{"host's pid namespace, as with --pid=host", func(f *fake) uint32 { return f.process("host", "", A) }, idA, false, nil},
		{"own docker/B", func(f *fake) uint32 {
			f.process("b", "1", B)
			f.process("a", "1", A)
			return f.process("a", "7", A+B)
		}, idA, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			s, err := f.resolve(c.build(f))
			if c.want != nil {
				if !errors.Is(err, c.want) || !errors.Is(err, ErrDenied) {
					t.Fatalf("got %+v %v, want %v", s, err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Host != c.host || !strings.HasPrefix(s.Container, c.container) || (s.Container == "") != (c.container == "") {
				t.Errorf("got host %v container %q", s.Host, s.Container)
			}
			if err := s.Holds("web"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	f := newFake(t)
	if _, err := f.resolve(0); !errors.Is(err, ErrNoCaller) {
		t.Errorf("pid 0: got %v", err)
	}
	if _, err := f.resolve(99); !errors.Is(err, ErrDenied) {
		t.Errorf("no such process: got %v", err)
	}
	for _, file := range []string{"cgroup", "mountinfo", "ns/pid"} {
		f := newFake(t)
		pid := f.process("a", "1", "/docker/"+idA)
		if err := os.Remove(filepath.Join(f.dir, "proc", fmt.Sprint(pid), file)); err != nil {
			t.Fatal(err)
		}
		if _, err := f.resolve(pid); !errors.Is(err, ErrDenied) {
			t.Errorf("without %s: got %v", file, err)
		}
	}
}

func TestConfirmInit(t *testing.T) {
	f := newFake(t)
	init := f.process("a", "1", "/docker/"+idA)
	s, err := f.resolve(f.process("a", "7", "/docker/"+idA))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		init uint32
		want error
	}{
		{"own", init, nil},
		{"another container's", f.process("b", "1", "/docker/"+idB), ErrCgroup},
		{"same cgroup, another namespace", f.process("c", "1", "/docker/"+idA), ErrForged},
		{"gone", 4711, ErrDenied},
	} {
		if err := f.r.ConfirmInit(s, c.init); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// Before the mount is there no device is ours: nobody holds a tree.
func TestNoDeviceNoTree(t *testing.T) {
	f := newFake(t)
	pid := f.process("a", "1", "/docker/"+idA)
	f.r.SetDevice(0)
	s, err := f.resolve(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Holds("web"); !errors.Is(err, ErrNotMounted) {
		t.Errorf("got %v", err)
	}
}

func TestTooManyCgroups(t *testing.T) {
	f := newFake(t)
	pid := f.process("a", "7", "/docker/"+idA)
	for i := range maxCgroups + 1 {
		if err := os.MkdirAll(filepath.Join(f.dir, "cg/docker", idA, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.resolve(pid); !errors.Is(err, ErrDenied) {
		t.Errorf("got %v", err)
	}
}

func TestNSpid(t *testing.T) {
	for text, want := range map[string]string{
		"Name:\tx\nNSpid:\t4711\t1\n": "1", "NSpid:\t4711\n": "4711", "NSpid:\t5\t4\t1\nNSpid:\t1\n": "1",
		"": "", "NSpid:\n": "", "Name:\tNSpid:\t1\n": "", "XNSpid:\t1\n": "",
	} {
		if got := nsPid(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzNSpid(f *testing.F) {
	f.Add("Name:\tx\nNSpid:\t4711\t1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if got := nsPid(text); strings.ContainsAny(got, " \t\n") || !strings.Contains(text, got) {
			t.Fatalf("%q of %q", got, text)
		}
	})
}
