package identity

import (
	"os"
	"os/exec"
	"testing"
)

// A process that ended is not alive, and neither is another one with its number.
func TestAlive(t *testing.T) {
	r, err := NewResolver()
	if err != nil {
		t.Fatal(err)
	}
	self := uint32(os.Getpid())
	w, err := r.Witness(&Subject{Caller: Caller{TID: self}, PidNamespace: r.hostPidns}, 0)
	if err != nil || w.PID != self || !r.Alive(w) {
		t.Fatalf("own process: %+v %v", w, err)
	}
	if other := (Process{w.PID, w.Start + 1}); r.Alive(other) {
		t.Error("a process with another start time counts as the same one")
	}
	// A thread ends long before its process: the process is what stands for a caller on the host.
	thread := &Subject{Caller: Caller{TID: 1}, Process: w, PidNamespace: r.hostPidns}
	if got, err := r.Witness(thread, 0); err != nil || got != w {
		t.Errorf("witness of a thread: got %+v %v, want %+v", got, err, w)
	}
	child := exec.Command("true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(child.Process.Pid)
	start, err := r.proc.entry(pid).start()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if r.Alive(Process{PID: pid, Start: start}) {
		t.Error("an ended process counts as alive")
	}
	if _, err := r.Witness(&Subject{PidNamespace: 12345}, 0); err == nil {
		t.Error("a namespace without processes has a witness")
	}
}

func TestParseStat(t *testing.T) {
	st, err := parseStat("7 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20")
	if want := (status{state: "S", threads: 17, start: 4711}); err != nil || st != want {
		t.Errorf("got %+v %v, want %+v", st, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 no"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
