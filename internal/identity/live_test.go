package identity_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/identity"
)

func TestResolveOwnProcess(t *testing.T) {
	r, err := identity.NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Resolve(context.Background(), identity.Caller{TID: uint32(unix.Gettid()), UID: uint32(os.Getuid())})
	if err != nil {
		t.Fatal(err)
	}
	if s.Container != "" {
		t.Skip("the test itself runs in a container:", s.Container)
	}
	exe, _ := os.Executable()
	if !s.Host || !s.HostRoot || s.Exe != exe || len(s.Roots) != 0 {
		t.Errorf("got %+v", s)
	}
	if w, err := r.Witness(s, 0); err != nil || !r.Alive(w) {
		t.Errorf("witness of our own process: %+v %v", w, err)
	}
}

// A request names a thread; its process is the one that people know.
func TestResolveThread(t *testing.T) {
	r, err := identity.NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	tids, end := make(chan uint32), make(chan struct{})
	defer close(end)
	for range 2 {
		go func() {
			runtime.LockOSThread() // a thread of its own, until it ends
			tids <- uint32(unix.Gettid())
			<-end
		}()
	}
	first, second := <-tids, <-tids
	if first == second {
		t.Fatalf("only thread %d", first)
	}
	for _, tid := range []uint32{first, second} {
		s, err := r.Resolve(context.Background(), identity.Caller{TID: tid})
		if err != nil {
			t.Fatal(err)
		}
		if s.PID != uint32(os.Getpid()) || s.Caller.TID != tid || !r.Alive(s.Process) {
			t.Errorf("thread %d: got process %+v, want %d", tid, s.Process, os.Getpid())
		}
	}
}

func TestResolveEnded(t *testing.T) {
	r, err := identity.NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Fatal(err)
	}
	s, err := r.Resolve(context.Background(), identity.Caller{TID: uint32(child.Process.Pid)})
	if !errors.Is(err, identity.ErrEnded) || !errors.Is(err, identity.ErrDenied) || s != nil {
		t.Errorf("got %+v %v", s, err)
	}
}

// A process in a pid namespace that no runtime made is a container of its own.
func TestResolveUnshared(t *testing.T) {
	// The shell is process 1 of the new namespace and says its number in ours, which /proc outside tells.
	cmd := exec.Command("unshare", "-p", "-f", "-m", "--", "sh", "-c", "echo started; read x")
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	err := cmd.Start()
	line := ""
	if err == nil {
		t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
		line, err = bufio.NewReader(out).ReadString('\n')
	}
	if err != nil || line != "started\n" {
		if os.Getenv("CI") != "" {
			t.Fatalf("unshare does not work: %q, %v", line, err)
		}
		t.Skipf("unshare needs root: %q, %v", line, err)
	}
	child := childOf(t, cmd.Process.Pid)
	r, err := identity.NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Resolve(context.Background(), identity.Caller{TID: child})
	if err != nil {
		t.Fatal(err)
	}
	if want := "pidns-" + strconv.FormatUint(s.PidNamespace, 10); s.Host || s.Container != want || s.Runtime != "namespace" {
		t.Errorf("got %+v, want container %s", s, want)
	}
	// The unshare process itself stayed outside.
	if s, err := r.Resolve(context.Background(), identity.Caller{TID: uint32(cmd.Process.Pid)}); err != nil || !s.Host {
		t.Errorf("parent: got %+v %v", s, err)
	}
	root := uint32(0)
	if p, err := r.FirstOf(s, &identity.Facts{InitPID: child, Peer: &root, Started: time.Now()}); err != nil || p != s.Process {
		t.Errorf("first process: got %+v %v, want %+v", p, err, s.Process)
	}
	if p, err := r.FirstOf(s, &identity.Facts{InitPID: uint32(cmd.Process.Pid), Peer: &root, Started: time.Now()}); err == nil {
		t.Errorf("the parent as first process: got %+v, want an error", p)
	}
	w, err := r.Witness(s, 0)
	if err != nil || w.PID != child || !r.Alive(w) {
		t.Errorf("witness %+v %v, want process %d", w, err, child)
	}
	_ = in.Close()
	_ = cmd.Wait()
	if r.Alive(w) {
		t.Error("the namespace's first process is said to live on")
	}
}

// A container that cgroups name, and an attacker who moves into it with a pid namespace of its own.
func TestResolveContained(t *testing.T) {
	dirs := containerCgroups(t)
	victim, attacker := box(t), box(t)
	moveInto(t, dirs, victim)
	r, err := identity.NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first process is looked for, and then remembered
		for _, pid := range victim {
			s, err := r.Resolve(context.Background(), identity.Caller{TID: pid})
			if errors.Is(err, identity.ErrCgroup) && os.Getenv("CI") == "" {
				t.Skip("some hierarchy cannot be entered:", err)
			}
			if err != nil || s.Container != strings.Repeat("e", 64) || s.PID != pid {
				t.Fatalf("process %d: got %+v, %v", pid, s, err)
			}
			if err := r.ConfirmInit(s, victim[0]); err != nil {
				t.Error(err)
			}
		}
	}
	moveInto(t, dirs, attacker[1:])
	for pid, want := range map[uint32]error{victim[1]: nil, attacker[1]: identity.ErrForged} {
		if _, err := r.Resolve(context.Background(), identity.Caller{TID: pid}); !errors.Is(err, want) {
			t.Errorf("without its first process, %d: got %v, want %v", pid, err, want)
		}
	}
	moveInto(t, dirs, attacker[:1])
	for _, pid := range []uint32{victim[1], attacker[1]} {
		if _, err := r.Resolve(context.Background(), identity.Caller{TID: pid}); !errors.Is(err, identity.ErrForged) {
			t.Errorf("with its first process, %d: got %v", pid, err)
		}
	}
}

func childOf(t *testing.T, pid int) uint32 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		t.Fatalf("children %q: %v", b, err)
	}
	return uint32(n)
}
