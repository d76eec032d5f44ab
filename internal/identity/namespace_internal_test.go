package identity

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// What the fixtures put in the place of the kernel's answer is the same question.
func TestFakeAncestry(t *testing.T) {
	f := newFake(t)
	f.write("ns/inner", "outer")
	f.inode("outer")
	outer, inner := f.process("outer", "1", "/"), f.process("inner", "1", "/")
	for _, c := range []struct {
		pid  uint32
		ns   string
		want bool
	}{
		{inner, "inner", true},
		{inner, "outer", true},
		{inner, "host", true},
		{outer, "inner", false},
		{outer, "other", false},
	} {
		if got := f.r.proc.pidNamespaceWithin(c.pid, f.inode(c.ns)); got != c.want {
			t.Errorf("process %d in %s: got %v", c.pid, c.ns, got)
		}
	}
	if f.r.proc.pidNamespaceWithin(4711, f.inode("host")) {
		t.Error("a process that is gone is in the host's namespace")
	}
}

// The kernel's own answer, which fixtures cannot give: a namespace made by unshare is below ours, and ours not below it.
func TestKernelAncestry(t *testing.T) {
	r, err := NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("a pid namespace needs root:", err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	child := uint32(cmd.Process.Pid)
	ns, err := kernel.entry(child).pidNamespace()
	if err != nil || ns == r.hostPidns {
		t.Fatalf("namespace of the child: got %d %v", ns, err)
	}
	self := uint32(os.Getpid())
	if !r.proc.pidNamespaceWithin(child, ns) || !r.proc.pidNamespaceWithin(child, r.hostPidns) || r.proc.pidNamespaceWithin(child, ns+1e6) {
		t.Error("the child's namespace is not where it should be")
	}
	if r.proc.pidNamespaceWithin(self, ns) || !r.proc.pidNamespaceWithin(self, r.hostPidns) {
		t.Error("our namespace is not where it should be")
	}
}
