package identity

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

func TestFirstOf(t *testing.T) {
	f := newFake(t)
	first, caller := f.process("rootless", "1", "/user.slice"), f.process("rootless", "7", "/user.slice")
	f.owned(first, 1000)
	s, err := f.resolve(caller)
	if err != nil {
		t.Fatal(err)
	}
	for _, peer := range []uint32{0, 1000} {
		if p, err := f.r.FirstOf(s, &Facts{InitPID: first, Peer: uid(peer)}); err != nil || p != (Process{first, 100}) {
			t.Errorf("uid %d says it: got %+v, %v", peer, p, err)
		}
	}
	for _, c := range []struct {
		name string
		init uint32
		peer *uint32
		want error
	}{
		{"not the first process", caller, uid(0), errNotFirst},
		{"another namespace", f.process("other", "1", "/user.slice"), uid(0), errNotFirst},
		{"host's namespace", f.process("host", "1", "/user.slice"), uid(0), errNotFirst},
		{"gone", 4711, uid(0), os.ErrNotExist},
		{"none", 0, uid(0), os.ErrNotExist},
		{"another user's runtime", first, uid(1001), ErrUnvouched},
		{"nobody knows whose runtime", first, nil, ErrUnvouched},
	} {
		if p, err := f.r.FirstOf(s, &Facts{InitPID: c.init, Peer: c.peer}); !errors.Is(err, c.want) || p != (Process{}) {
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
	if p, err := f.r.FirstOf(s, &Facts{InitPID: victim, Peer: uid(0)}); !errors.Is(err, errNamed) {
		t.Errorf("got %+v, %v", p, err)
	}
	f.write(fmt.Sprintf("proc/%d/cgroup", victim), "4:pids:/docker/"+idA+"\n5:memory:/docker/"+idB+"\n")
	if p, err := f.r.FirstOf(s, &Facts{InitPID: victim, Peer: uid(0)}); !errors.Is(err, errNamed) {
		t.Errorf("cgroups that contradict each other: got %+v, %v", p, err)
	}
}
