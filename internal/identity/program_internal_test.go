package identity

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The path of a program counts only when the host's own mount table gave it: in one's own, another file can have it.
func TestProgram(t *testing.T) {
	r, err := NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	sleeper := func(argv ...string) *Subject {
		t.Helper()
		cmd := exec.Command(argv[0], argv[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cmd.StdinPipe(); err != nil { // it reads, and so waits
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		if _, err := out.Read(make([]byte, 1)); err != nil { // it is where it wants to be
			t.Fatal(err)
		}
		s, err := r.Resolve(context.Background(), Caller{TID: uint32(cmd.Process.Pid)})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Program() // while it waits
		return s
	}
	if s := sleeper("sh", "-c", "echo x; read x"); !s.Host || s.Program() == "" || s.Program() != s.Exe {
		t.Errorf("host process: %+v", s)
	}
	const disguise = "cp /bin/sh $0/evil && mount --bind $0/evil /usr/bin/env && exec /usr/bin/env -c 'echo x; read x'"
	s := sleeper("unshare", "--mount", "sh", "-c", disguise, t.TempDir())
	if !strings.HasSuffix(s.Exe, "/env") || s.Program() != "" {
		t.Errorf("a shell under another program's name: exe %q, program %q", s.Exe, s.Program())
	}
}

// Most policies do not ask for a program, and then nobody looks for it. Fail closed: what is asked when the caller has
// ended, or when its number has come to mean another one, is nothing.
func TestProgramIsAskedLate(t *testing.T) {
	for name, c := range map[string]struct {
		change string
		want   string
	}{"the same": {"", "/bin/x"}, "ended": {"end 1", ""}, "another": {"start 1 999", ""}} {
		f := newFake(t)
		f.r.hostMntns = f.inode("mounts")
		pid := f.process("host", "1", "/user.slice")
		f.symlink(pid, "/bin/x")
		s, err := f.resolve(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Link(filepath.Join(f.dir, "ns/mounts"), filepath.Join(f.r.proc.path(pid), "ns/mnt")); err != nil {
			t.Fatal(err) // was not there before: it cannot have been read
		}
		if c.change != "" {
			f.change(strings.Fields(c.change))
		}
		if got := s.Program(); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func (f *fake) symlink(pid uint32, exe string) {
	f.t.Helper()
	if err := os.Symlink(exe, filepath.Join(f.r.proc.path(pid), "exe")); err != nil {
		f.t.Fatal(err)
	}
}
