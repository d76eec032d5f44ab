package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const cgroupsOfA = "0::/docker/" + idA + "\n"

// contained is a container whose first process is remembered.
func contained(t *testing.T) (f *fake, first, caller uint32) {
	f = newFake(t)
	first, caller = f.process("a", "1", "/docker/"+idA), f.process("a", "7", "/docker/"+idA)
	if _, err := f.resolve(caller); err != nil {
		t.Fatal(err)
	}
	if c, ok := f.recall(); !ok || c.pid != first {
		t.Fatalf("remembered: %+v, %v", c, ok)
	}
	return f, first, caller
}

func (f *fake) recall() (candidate, bool) {
	return f.r.firsts.recall(f.r.proc, cgroupsOfA)
}

// replace gives a number to another process of the same cgroup.
func (f *fake) replace(pid uint32, ns, number string) {
	f.t.Helper()
	if err := os.RemoveAll(filepath.Join(f.r.proc.dir, strconv.Itoa(int(pid)))); err != nil {
		f.t.Fatal(err)
	}
	f.task(task{pid, pid, 300, ns, number, []string{"/web"}, "0::/docker/" + idA + "\n"})
	f.write("cg/in /docker/"+idA+"/cgroup.procs", "1\n2\n")
}

func TestFirstIsRemembered(t *testing.T) {
	f, first, caller := contained(t)
	// A search would now find nothing: what is asked for is not looked for.
	f.write("proc/1/status", "Name:\tx\nTgid:\t1\nNSpid:\t1\n")
	s, err := f.resolve(caller)
	if err != nil || s.first != first {
		t.Errorf("got %+v, %v", s, err)
	}
}

// A second first process contradicts the one that is remembered at once.
func TestSecondFirstRefuses(t *testing.T) {
	f, _, caller := contained(t)
	second := f.process("b", "1", "/docker/"+idA)
	for _, pid := range []uint32{caller, second} {
		if _, err := f.resolve(pid); !errors.Is(err, ErrForged) {
			t.Errorf("process %d: got %v", pid, err)
		}
	}
}

// A container that was started again has another first process, even one with the same number in the same list.
func TestFirstEnded(t *testing.T) {
	f, first, caller := contained(t)
	f.replace(first, "b", "1")
	if _, ok := f.recall(); ok {
		t.Error("a process that ended is remembered")
	}
	if _, err := f.resolve(caller); !errors.Is(err, ErrForged) {
		t.Errorf("caller of before: got %v", err)
	}
	f.replace(caller, "b", "7")
	if _, err := f.resolve(caller); err != nil {
		t.Errorf("caller of now: %v", err)
	}
}

// What only a number that came again can hide, is hidden for no longer than keptFor.
func TestFirstIsForgotten(t *testing.T) {
	f, first, caller := contained(t)
	f.replace(caller, "b", "1")
	if _, err := f.resolve(first); err != nil {
		t.Errorf("while remembered: %v", err)
	}
	for k, c := range f.r.firsts.of {
		c.at = c.at.Add(-keptFor - time.Second)
		f.r.firsts.of[k] = c
	}
	if _, err := f.resolve(first); !errors.Is(err, ErrForged) {
		t.Errorf("afterwards: got %v", err)
	}
}

// What is confirmed once is not asked for again, and only that: another first process than the kernel showed is judged.
func TestConfirmedOnce(t *testing.T) {
	f, first, caller := contained(t)
	other := f.process("b", "1", "/docker/"+idB)
	s, err := f.resolve(caller)
	if err != nil {
		t.Fatal(err)
	}
	f.replace(first, "b", "1")
	if err := f.r.ConfirmInit(s, first); err != nil {
		t.Errorf("the same: %v", err)
	}
	if err := f.r.ConfirmInit(s, other); !errors.Is(err, ErrCgroup) {
		t.Errorf("another: got %v", err)
	}
	if err := f.r.ConfirmInit(&Subject{Container: idA}, 0); !errors.Is(err, ErrDenied) {
		t.Errorf("none: got %v", err)
	}
}

// What came to be another process between the search and the remembering is not remembered.
func TestFirstChangedMeanwhile(t *testing.T) {
	f := newFake(t)
	first, other := f.process("a", "1", "/docker/"+idA), f.process("a", "7", "/docker/"+idA)
	for _, c := range []candidate{{pid: first, ns: f.inode("b")}, {pid: other, ns: f.inode("a")}, {pid: 4711, ns: f.inode("a")}} {
		f.r.firsts.keep(f.r.proc, cgroupsOfA, found{candidate: c, dir: filepath.Join(f.dir, "cg/in /docker", idA), list: "1\n2\n"})
		if _, ok := f.recall(); ok {
			t.Errorf("%+v is remembered", c)
		}
	}
}

// A container whose members come and go is searched for its first process each time, and holds one descriptor.
func TestOneDescriptorForEach(t *testing.T) {
	f, first, caller := contained(t)
	held := f.remembered()
	for range 10 {
		f.process("a", "8", "/docker/"+idA)
		if _, err := f.resolve(caller); err != nil {
			t.Fatal(err)
		}
		if got := f.remembered(); got.held != held.held || got.list == held.list {
			t.Fatalf("got %+v, after %+v", got, held)
		}
	}
	f.replace(first, "b", "1")
	f.replace(caller, "b", "7")
	if _, err := f.resolve(caller); err != nil {
		t.Fatal(err)
	}
	if got := f.remembered(); got.held == held.held || got.ns != f.inode("b") {
		t.Errorf("after another first process: got %+v", got)
	}
}

func (f *fake) remembered() found { return f.r.firsts.of[cgroupsOfA] }

// A container that nobody asks about any more costs no descriptor.
func TestExpiredFirstsAreDropped(t *testing.T) {
	f, _, _ := contained(t)
	old := f.remembered()
	old.at = old.at.Add(-keptFor - time.Second)
	f.r.firsts.of[cgroupsOfA] = old
	f.process("b", "1", "/docker/"+idB)
	if _, err := f.resolve(f.process("b", "7", "/docker/"+idB)); err != nil {
		t.Fatal(err)
	}
	if got := f.remembered(); got.held != nil || len(f.r.firsts.of) != 1 {
		t.Errorf("got %+v", f.r.firsts.of)
	}
}

// Who took a container's name before it started, in a hierarchy where it is not, is found out when it starts.
func TestSquatterIsForgotten(t *testing.T) {
	f := newFake(t)
	squatter := task{20, 20, 200, "b", "1", []string{"/web"}, "4:pids:/\n0::/docker/" + idA + "\n"}
	f.task(squatter)
	if s, err := f.resolve(20); err != nil || s.Container != idA {
		t.Fatalf("before: got %+v, %v", s, err)
	}
	f.task(task{10, 10, 300, "a", "1", []string{"/web"}, "4:pids:/docker/" + idA + "\n0::/\n"})
	for _, pid := range []uint32{10, 20} {
		if _, err := f.resolve(pid); !errors.Is(err, ErrForged) {
			t.Errorf("process %d: got %v", pid, err)
		}
	}
}

// A subject that Resolve has not made is known by nothing: what is remembered may be another container's.
func TestUnresolvedIsNotRemembered(t *testing.T) {
	f, _, _ := contained(t)
	other := f.process("b", "1", "/docker/"+idB)
	for id, want := range map[string]string{idA: "a", idB: "b"} {
		for range 2 {
			s := &Subject{Container: id, Cgroups: map[string]string{"": "/docker/" + id}}
			if c, err := f.r.findInit(s); err != nil || c.ns != f.inode(want) {
				t.Errorf("%s (first process of b is %d): got %+v, %v", want, other, c, err)
			}
		}
	}
}
