package identity

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestFirstOf(t *testing.T) {
	f := newFake(t)
	first, caller := f.process("rootless", "1", "/user.slice"), f.process("rootless", "7", "/user.slice")
	f.owned(first, 1000)
	s, err := f.resolve(caller)
	if err != nil {
		t.Fatal(err)
	}
	started, err := Process{first, 100}.Started()
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range []uint32{0, 1000} {
		if p, err := f.r.FirstOf(s, &Facts{InitPID: first, Peer: uid(peer), Started: started}); err != nil || p != (Process{first, 100}) {
			t.Errorf("uid %d says it: got %+v, %v", peer, p, err)
		}
	}
	for _, c := range []struct {
		name    string
		init    uint32
		peer    *uint32
		started time.Time
		want    error
	}{
		{"not the first process", caller, uid(0), started, errNotFirst},
		{"another namespace", f.process("other", "1", "/user.slice"), uid(0), started, errNotFirst},
		{"host's namespace", f.process("host", "1", "/user.slice"), uid(0), started, errNotFirst},
		{"gone", 4711, uid(0), started, os.ErrNotExist},
		{"none", 0, uid(0), started, os.ErrNotExist},
		{"another user's runtime", first, uid(1001), started, ErrUnvouched},
		{"a container of before it", first, uid(0), started.Add(-time.Minute), errLate},
		{"nobody knows when it was started", first, uid(0), time.Time{}, errLate},
		{"nobody knows whose runtime", first, nil, started, ErrUnvouched},
	} {
		if p, err := f.r.FirstOf(s, &Facts{InitPID: c.init, Peer: c.peer, Started: c.started}); !errors.Is(err, c.want) || p != (Process{}) {
			t.Errorf("%s: got %+v %v, want %v", c.name, p, err, c.want)
		}
	}
}

// Fail closed: whoever left the cgroups of a container in the pid namespace of another one is not the other one.
func TestFirstOfNamedContainer(t *testing.T) {
	f := newFake(t)
	victim, attacker := f.process("v", "1", "/docker/"+idA), f.process("v", "7", "/")
	s, err := f.resolve(attacker)
	if err != nil || s.Runtime != "namespace" {
		t.Fatalf("got %+v, %v", s, err)
	}
	if p, err := f.r.FirstOf(s, &Facts{InitPID: victim, Peer: uid(0), Started: time.Now()}); !errors.Is(err, errNamed) {
		t.Errorf("got %+v, %v", p, err)
	}
	f.write(fmt.Sprintf("proc/%d/cgroup", victim), "4:pids:/docker/"+idA+"\n5:memory:/docker/"+idB+"\n")
	if p, err := f.r.FirstOf(s, &Facts{InitPID: victim, Peer: uid(0), Started: time.Now()}); !errors.Is(err, errNamed) {
		t.Errorf("cgroups that contradict each other: got %+v, %v", p, err)
	}
}
