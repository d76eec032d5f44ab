package identity

import (
	"context"
	"os/exec"
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
		return s
	}
	if s := sleeper("sh", "-c", "echo x; read x"); !s.Host || s.Program == "" || s.Program != s.Exe {
		t.Errorf("host process: %+v", s)
	}
	const disguise = "cp /bin/sh $0/evil && mount --bind $0/evil /usr/bin/env && exec /usr/bin/env -c 'echo x; read x'"
	s := sleeper("unshare", "--mount", "sh", "-c", disguise, t.TempDir())
	if !strings.HasSuffix(s.Exe, "/env") || s.Program != "" {
		t.Errorf("a shell under another program's name: exe %q, program %q", s.Exe, s.Program)
	}
}
