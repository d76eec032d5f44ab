package identity

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// owned puts a process in a user namespace of a uid's.
func (f *fake) owned(pid, uid uint32) {
	f.t.Helper()
	f.write(fmt.Sprintf("proc/%d/ns/user", pid), fmt.Sprint(uid))
}

func uid(n uint32) *uint32 { return &n }

func TestVouched(t *testing.T) {
	f := newFake(t)
	ofRoot, ofUser, unreadable := f.process("a", "1", "/"), f.process("b", "1", "/"), f.process("c", "1", "/")
	f.owned(ofRoot, 0)
	f.owned(ofUser, 1000)
	for _, c := range []struct {
		name string
		init uint32
		peer *uint32
		ok   bool
	}{
		{"root for root's", ofRoot, uid(0), true},
		{"root for a user's", ofUser, uid(0), true},
		{"a user for their own", ofUser, uid(1000), true},
		{"a user for root's", ofRoot, uid(1000), false},
		{"a user for another's", ofUser, uid(1001), false},
		{"nobody known", ofUser, nil, false},
		{"a user without a number", ofUser, uid(overflowUID), false},
		{"a namespace that cannot be seen", unreadable, uid(1000), false},
		{"a process that is gone", 4711, uid(1000), false},
	} {
		err := f.r.Vouched(&Facts{InitPID: c.init, Peer: c.peer})
		if (err == nil) != c.ok || err != nil && (!errors.Is(err, ErrUnvouched) || !errors.Is(err, ErrDenied)) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	f.owned(unreadable, overflowUID)
	if err := f.r.Vouched(&Facts{InitPID: unreadable, Peer: uid(overflowUID)}); !errors.Is(err, ErrUnvouched) {
		t.Errorf("two users without numbers: got %v", err)
	}
}

// The kernel's own answer: a user namespace is that of the uid that made it, whatever uid it gives to itself.
func TestKernelOwner(t *testing.T) {
	cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-c", "echo there; read x")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 12345, Gid: 12345}
	}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Skip("no unshare:", err)
	}
	t.Cleanup(func() { _, _ = in.Close(), cmd.Wait() })
	var line string
	if _, err := fmt.Fscan(out, &line); err != nil {
		t.Skip("no user namespace can be made:", err)
	}
	r, err := NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	owner := uint32(12345)
	if os.Geteuid() != 0 {
		owner = uint32(os.Geteuid())
	}
	f := &Facts{InitPID: uint32(cmd.Process.Pid), Peer: &owner}
	if err := r.Vouched(f); err != nil {
		t.Error(err)
	}
	if f.Peer = uid(owner + 1); !errors.Is(r.Vouched(f), ErrUnvouched) {
		t.Error("another uid vouches for it")
	}
	if f.InitPID, f.Peer = uint32(os.Getpid()), uid(owner+1); !errors.Is(r.Vouched(f), ErrUnvouched) {
		t.Error("another uid vouches for us")
	}
}
