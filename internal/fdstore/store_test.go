package fdstore_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// file makes a descriptor without close-on-exec, as an inherited one is, of a file that says text.
func file(t *testing.T, text string) int {
	t.Helper()
	fd, err := unix.MemfdCreate(text, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err := unix.Pwrite(fd, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
	return fd
}

// says reads what file wrote.
func says(t *testing.T, fd int) string {
	t.Helper()
	buf := make([]byte, 64)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}

func closeOnExec(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.FD_CLOEXEC != 0
}

// environment is a process's variables.
type environment map[string]string

func (e environment) get(v string) string  { return e[v] }
func (e environment) unset(v string) error { delete(e, v); return nil }

func TestInheritedOurs(t *testing.T) {
	a, b := file(t, "a"), file(t, "b")
	for _, tc := range []struct {
		name string
		list string
		want map[string]int
	}{
		{"none", "", map[string]int{}},
		{"one", fmt.Sprintf("fuse:%d", a), map[string]int{"fuse": a}},
		{"two", fmt.Sprintf("fuse:%d,ledger:%d", a, b), map[string]int{"fuse": a, "ledger": b}},
		{"empty items", fmt.Sprintf(",fuse:%d,,", a), map[string]int{"fuse": a}},
		{"the keeper", fmt.Sprintf("keeper:%d", a), map[string]int{"keeper": a}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, fd := range []int{a, b} {
				if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
					t.Fatal(err)
				}
			}
			env := environment{fdstore.Var: tc.list, "LISTEN_PID": strconv.Itoa(os.Getpid()), "HOME": "/root"}
			if tc.list != "" {
				env["LISTEN_FDS"] = "4000" // ours go first
			}
			got, err := fdstore.Inherited(env.get, env.unset)
			if err != nil || !maps.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
			for name, fd := range got {
				if !closeOnExec(t, fd) {
					t.Errorf("%s goes to children", name)
				}
			}
			if !maps.Equal(env, environment{"HOME": "/root"}) {
				t.Errorf("environment is %v", env)
			}
		})
	}
}

// quick lets a child under the race detector end without a second's sleep; it is none of the variables to take away.
const quick = "GORACE=atexit_sleep_ms=0"

func TestInheritedSystemd(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  []string
		want []string
	}{
		{"named", []string{"LISTEN_PID=me", "LISTEN_FDS=2", "LISTEN_FDNAMES=fuse:ledger"}, []string{"fuse=first", "ledger=second"}},
		{"fewer names", []string{"LISTEN_PID=me", "LISTEN_FDS=2", "LISTEN_FDNAMES=fuse"}, []string{"fuse=first", "unknown-1=second"}},
		{"an empty name", []string{"LISTEN_PID=me", "LISTEN_FDS=2", "LISTEN_FDNAMES=:ledger"}, []string{"ledger=second", "unknown-0=first"}},
		{"no names", []string{"LISTEN_PID=me", "LISTEN_FDS=1"}, []string{"unknown-0=first"}},
		{"more names", []string{"LISTEN_PID=me", "LISTEN_FDS=1", "LISTEN_FDNAMES=fuse:ledger"}, []string{"fuse=first"}},
		{"twice", []string{"LISTEN_PID=me", "LISTEN_FDS=2", "LISTEN_FDNAMES=ledger:ledger"}, []string{"ledger=first"}},
		{"none", []string{"LISTEN_PID=me", "LISTEN_FDS=0"}, nil},
		{"of another process", []string{"LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=fuse:ledger"}, nil},
		{"of nobody", []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=fuse:ledger"}, nil},
		{"ours go first", []string{fdstore.Var + "=sealed:4", "LISTEN_PID=me", "LISTEN_FDS=2", "LISTEN_FDNAMES=fuse:ledger"}, []string{"sealed=second"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "child-inherit")
			cmd.Env = append(tc.env, quick)
			for _, text := range []string{"first", "second"} {
				f := os.NewFile(uintptr(owned(t, text)), text)
				defer f.Close()
				cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			}
			out, err := cmd.CombinedOutput()
			if got := strings.Fields(string(out)); err != nil || !slices.Equal(got, append(tc.want, quick)) {
				t.Errorf("got %v, %v, want %v and %s", got, err, tc.want, quick)
			}
		})
	}
}

func TestInheritedRefuses(t *testing.T) {
	a := file(t, "a")
	me := strconv.Itoa(os.Getpid())
	for _, tc := range []struct {
		name string
		env  environment
	}{
		{"no number", environment{fdstore.Var: "fuse"}},
		{"an empty number", environment{fdstore.Var: "fuse:"}},
		{"a word", environment{fdstore.Var: "fuse:three"}},
		{"negative", environment{fdstore.Var: "fuse:-1"}},
		{"one that is not open", environment{fdstore.Var: "fuse:99999"}},
		{"too large", environment{fdstore.Var: "fuse:99999999999999999999"}},
		{"a bad one after a good one", environment{fdstore.Var: fmt.Sprintf("ledger:%d,fuse:x", a)}},
		{"systemd, not open", environment{"LISTEN_PID": me, "LISTEN_FDS": "5000", "LISTEN_FDNAMES": "fuse"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.HasPrefix(tc.name, "systemd") {
				// What is open already, the test's own included, is marked on the way to what is not: no harm.
				tc.env["HOME"] = "/root"
			}
			if got, err := fdstore.Inherited(tc.env.get, tc.env.unset); err == nil {
				t.Errorf("got %v, want an error", got)
			}
			// A child must not take them up either.
			for _, v := range []string{fdstore.Var, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
				if tc.env[v] != "" {
					t.Errorf("%s is left", v)
				}
			}
		})
	}
	stuck := errors.New("stuck")
	if _, err := fdstore.Inherited(environment{}.get, func(string) error { return stuck }); !errors.Is(err, stuck) {
		t.Errorf("got %v, want that the environment could not be cleared", err)
	}
}

// The first of one name counts, and the other is closed.
func TestInheritedTwice(t *testing.T) {
	a := file(t, "a")
	b, err := unix.FcntlInt(uintptr(file(t, "b")), unix.F_DUPFD, 200)
	if err != nil {
		t.Fatal(err)
	}
	env := environment{fdstore.Var: fmt.Sprintf("ledger:%d,ledger:%d", a, b)}
	got, err := fdstore.Inherited(env.get, env.unset)
	if err != nil || !maps.Equal(got, map[string]int{"ledger": a}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := unix.FcntlInt(uintptr(b), unix.F_GETFD, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("the second is open: %v", err)
		_ = unix.Close(b)
	}
}

// owned is a descriptor that a store may close.
func owned(t *testing.T, text string) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(file(t, text)), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestKind(t *testing.T) {
	for _, tc := range []struct {
		name   string
		keeper bool
		notify string
		want   fdstore.Kind
	}{
		{"nobody", false, "", fdstore.None},
		{"keeper", true, "", fdstore.Keeper},
		{"systemd", false, "/run/notify", fdstore.Systemd},
		{"a keeper under systemd", true, "/run/notify", fdstore.Keeper},
	} {
		held := map[string]int{"ledger": owned(t, "ledger")}
		if tc.keeper {
			held["keeper"] = owned(t, "keeper")
		}
		s := fdstore.New(held, tc.notify)
		if got := s.Kind(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
		if got := s.Names(); !slices.Equal(got, []string{"ledger"}) {
			t.Errorf("%s: holds %v", tc.name, got)
		}
	}
}

func TestTake(t *testing.T) {
	s := fdstore.New(map[string]int{"ledger": owned(t, "the ledger")}, "")
	for range 2 {
		fd, ok := s.Take("ledger")
		if !ok || says(t, fd) != "the ledger" || !closeOnExec(t, fd) {
			t.Fatalf("got %d %v: %s", fd, ok, says(t, fd))
		}
		if err := unix.Close(fd); err != nil { // it is the taker's
			t.Fatal(err)
		}
	}
	if fd, ok := s.Take("fuse"); ok || fd >= 0 {
		t.Errorf("got %d %v of what is not kept", fd, ok)
	}
}

// Without a holder nothing outlives the process, and nothing is said to anybody.
func TestNoHolder(t *testing.T) {
	s := fdstore.New(map[string]int{}, "")
	if err := errors.Join(s.Keep("ledger", file(t, "x")), s.Notify("READY=1")); err != nil {
		t.Error(err)
	}
	s.Drop("ledger")
	if got := s.Names(); len(got) != 0 {
		t.Errorf("holds %v", got)
	}
	if err := s.WaitKeeper(); err == nil {
		t.Error("there is no keeper to wait for")
	}
}

func TestEnvironment(t *testing.T) {
	for _, notify := range []string{"", "/run/notify"} {
		keeper, _ := pair(t)
		s := fdstore.New(map[string]int{"keeper": keeper, "sealed": owned(t, "sealed"), "ledger": owned(t, "ledger")}, notify)
		env, err := s.Environment()
		if err != nil {
			t.Fatal(err)
		}
		vars := environment{}
		for _, line := range env {
			k, v, _ := strings.Cut(line, "=")
			vars[k] = v
		}
		if vars["NOTIFY_SOCKET"] != notify {
			t.Errorf("NOTIFY_SOCKET is %q, want %q", vars["NOTIFY_SOCKET"], notify)
		}
		for item := range strings.SplitSeq(vars[fdstore.Var], ",") {
			_, number, _ := strings.Cut(item, ":")
			if fd, err := strconv.Atoi(number); err != nil || closeOnExec(t, fd) {
				t.Errorf("%s does not outlive execve, %v", item, err)
			}
		}
		// The program that this one becomes has the same store.
		held, err := fdstore.Inherited(vars.get, vars.unset)
		if err != nil || len(held) != 3 || says(t, held["ledger"]) != "ledger" || says(t, held["sealed"]) != "sealed" || held["keeper"] != keeper {
			t.Errorf("got %v, %v", held, err)
		}
		if next := fdstore.New(held, notify); next.Kind() != fdstore.Keeper {
			t.Errorf("it is held by %s", next.Kind())
		}
	}
}

func TestEnvironmentFails(t *testing.T) {
	s := fdstore.New(map[string]int{"ledger": 99999}, "")
	if env, err := s.Environment(); err == nil {
		t.Errorf("got %v for a descriptor that is not open", env)
	}
}
