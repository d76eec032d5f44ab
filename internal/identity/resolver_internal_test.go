package identity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

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
		if err := os.MkdirAll(filepath.Join(f.dir, "cg/in /docker", idA, fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.resolve(pid); !errors.Is(err, ErrDenied) {
		t.Errorf("got %v", err)
	}
}
