package fdstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// pair makes a keeper's socket, and the keeper's end of it.
func pair(t *testing.T) (server, keeper int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	patient(t, fds[1])
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// patient lets a read of what never comes fail.
func patient(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
}

// message is what a holder receives: the text, and what the descriptor's file says.
type message struct{ text, file string }

func receive(t *testing.T, fd int) message {
	t.Helper()
	buf, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*8))
	n, rn, _, _, err := unix.Recvmsg(fd, buf, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		t.Fatal("receive:", err)
	}
	m := message{text: string(buf[:n])}
	cms, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		t.Fatal(err)
	}
	for _, cm := range cms {
		fds, err := unix.ParseUnixRights(&cm)
		if err != nil || len(fds) != 1 {
			t.Fatalf("got descriptors %v, %v, want one", fds, err)
		}
		m.file += says(t, fds[0])
		_ = unix.Close(fds[0])
	}
	return m
}

// silent demands that nothing more is to be received.
func silent(t *testing.T, fd int) {
	t.Helper()
	if n, _, err := unix.Recvfrom(fd, make([]byte, 64), unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("%d bytes more, %v", n, err)
	}
}

// holders are both kinds: a store, and the socket on which its holder listens.
func holders(t *testing.T) map[string]func(t *testing.T) (*fdstore.Store, int) {
	t.Helper()
	systemd := func(path string) func(t *testing.T) (*fdstore.Store, int) {
		return func(t *testing.T) (*fdstore.Store, int) {
			t.Helper()
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
				t.Fatal(err)
			}
			patient(t, fd)
			return fdstore.New(map[string]int{}, path), fd
		}
	}
	return map[string]func(t *testing.T) (*fdstore.Store, int){
		"keeper": func(t *testing.T) (*fdstore.Store, int) {
			t.Helper()
			server, keeper := pair(t)
			// systemd hears of it from the keeper.
			return fdstore.New(map[string]int{"keeper": server}, "/nowhere"), keeper
		},
		"systemd":                systemd(filepath.Join(t.TempDir(), "notify")),
		"systemd, abstract path": systemd(fmt.Sprintf("@claudefs-test-%d", unix.Getpid())),
	}
}

func TestMessages(t *testing.T) {
	type store = fdstore.Store
	keep := func(name, text string) func(t *testing.T, s *store) error {
		return func(t *testing.T, s *store) error {
			t.Helper()
			return s.Keep(name, file(t, text))
		}
	}
	drop := func(name string) func(t *testing.T, s *store) error {
		return func(_ *testing.T, s *store) error { s.Drop(name); return nil }
	}
	stored := func(name, text string) message { return message{"FDSTORE=1\nFDNAME=" + name + "\nFDPOLL=0", text} }
	removed := func(name string) message { return message{"FDSTOREREMOVE=1\nFDNAME=" + name, ""} }
	for _, tc := range []struct {
		name  string
		do    []func(t *testing.T, s *store) error
		want  []message
		names []string
	}{
		{"keep", []func(*testing.T, *store) error{keep("ledger", "one")}, []message{stored("ledger", "one")}, []string{"ledger"}},
		{
			"keep two",
			[]func(*testing.T, *store) error{keep("sealed", "one"), keep("ledger", "two")},
			[]message{stored("sealed", "one"), stored("ledger", "two")},
			[]string{"ledger", "sealed"},
		},
		{
			"keep another of the name",
			[]func(*testing.T, *store) error{keep("ledger", "one"), keep("ledger", "two")},
			[]message{stored("ledger", "one"), removed("ledger"), stored("ledger", "two")},
			[]string{"ledger"},
		},
		{
			"drop",
			[]func(*testing.T, *store) error{keep("ledger", "one"), drop("ledger"), drop("ledger")},
			[]message{stored("ledger", "one"), removed("ledger")},
			nil,
		},
		{"drop what is not kept", []func(*testing.T, *store) error{drop("ledger")}, nil, nil},
		{
			"notify",
			[]func(*testing.T, *store) error{
				func(_ *testing.T, s *store) error { return s.Notify() }, // nothing: it would be the end
				func(_ *testing.T, s *store) error { return s.Notify("READY=1", "STATUS=it serves") },
				func(_ *testing.T, s *store) error { return s.Notify("WATCHDOG=1") },
			},
			[]message{{"READY=1\nSTATUS=it serves", ""}, {"WATCHDOG=1", ""}},
			nil,
		},
	} {
		for kind, with := range holders(t) {
			t.Run(tc.name+"/"+kind, func(t *testing.T) {
				s, holder := with(t)
				for _, do := range tc.do {
					if err := do(t, s); err != nil {
						t.Fatal(err)
					}
				}
				for _, want := range tc.want {
					if got := receive(t, holder); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				}
				silent(t, holder)
				if got := s.Names(); !slices.Equal(got, tc.names) {
					t.Errorf("holds %v, want %v", got, tc.names)
				}
			})
		}
	}
}

// What is kept is a copy: the caller's own may be closed, and the newest of a name is taken.
func TestKeepCopies(t *testing.T) {
	server, _ := pair(t)
	s := fdstore.New(map[string]int{"keeper": server}, "")
	for _, text := range []string{"one", "two"} {
		fd := owned(t, text)
		if err := s.Keep("ledger", fd); err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(fd)
		got, ok := s.Take("ledger")
		if !ok || says(t, got) != text {
			t.Errorf("got %v %q, want %q", ok, says(t, got), text)
		}
		_ = unix.Close(got)
	}
	if err := s.Keep("ledger", 99999); err == nil {
		t.Error("a descriptor that is not open is kept")
	}
	if fd, ok := s.Take("ledger"); !ok || says(t, fd) != "two" {
		t.Error("after an error the one before is gone")
	}
}

// A holder that is gone is an error, not a signal. What is kept for a keeper its successor gets.
func TestHolderGone(t *testing.T) {
	server, keeper := pair(t)
	_ = unix.Shutdown(keeper, unix.SHUT_RDWR)
	for kind, s := range map[fdstore.Kind]*fdstore.Store{
		fdstore.Keeper:  fdstore.New(map[string]int{"keeper": server}, ""),
		fdstore.Systemd: fdstore.New(map[string]int{}, filepath.Join(t.TempDir(), "none")),
	} {
		if err := s.Notify("READY=1"); err == nil {
			t.Errorf("%s: notify reports nothing", kind)
		}
		want := []string{"ledger"}
		before := openDescriptors(t)
		err := s.Keep("ledger", file(t, "one"))
		if kind == fdstore.Systemd {
			want = nil
			if after := openDescriptors(t); err == nil || len(after) != len(before)+1 { // the file
				t.Errorf("%s: keep reports %v, %d are open, before %d", kind, err, len(after), len(before))
			}
		} else if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := s.Names(); !slices.Equal(got, want) {
			t.Errorf("%s: holds %v, want %v", kind, got, want)
		}
		s.Drop("ledger")
	}
}

// A full store says so, and still takes what the mount depends on.
func TestKeepFull(t *testing.T) {
	for kind, with := range holders(t) {
		t.Run(kind, func(t *testing.T) {
			s, holder := with(t)
			heard := 0
			hear := func() {
				receive(t, holder)
				heard++
			}
			fd := file(t, "one")
			var err error
			for i := 0; err == nil && i <= fdstore.MaxHeld; i++ {
				if err = s.Keep(fmt.Sprintf("file-%d", i), fd); err == nil {
					hear()
				}
			}
			if !errors.Is(err, fdstore.ErrFull) || len(s.Names()) != heard {
				t.Fatalf("got %v, %d are kept, the holder heard of %d", err, len(s.Names()), heard)
			}
			silent(t, holder)
			for _, name := range []string{
				fdstore.Device, fdstore.Ledger, fdstore.Sealed, fdstore.Waiting, fdstore.Abort, fdstore.Exe, fdstore.Refusals,
			} {
				if err := s.Keep(name, fd); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				hear()
			}
			if n := len(s.Names()); n > fdstore.MaxHeld || n != heard {
				t.Errorf("%d are kept, the holder heard of %d and takes %d", n, heard, fdstore.MaxHeld)
			}
			if err := s.Keep("file-0", fd); err != nil {
				t.Error("another in place of one that is kept:", err)
			}
			s.Drop("file-1")
			if err := s.Keep("file-new", fd); err != nil {
				t.Error("after one was dropped:", err)
			}
		})
	}
}

// systemd takes as many as a keeper does.
func TestUnitFile(t *testing.T) {
	text, err := os.ReadFile("../../dist/systemd/claudefs.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "FileDescriptorStoreMax="); ok {
			if n, err := strconv.Atoi(strings.TrimSpace(value)); err != nil || n < fdstore.MaxHeld {
				t.Errorf("systemd keeps %q, want %d", value, fdstore.MaxHeld)
			}
			return
		}
	}
	t.Error("systemd keeps nothing")
}

func TestWaitKeeper(t *testing.T) {
	server, keeper := pair(t)
	s := fdstore.New(map[string]int{"keeper": server}, "")
	ended := make(chan error, 1)
	go func() { ended <- s.WaitKeeper() }()
	// What a keeper says, and what it is told, is not its end.
	if _, err := unix.Write(keeper, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := s.Notify("WATCHDOG=1"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatal("it ended before the keeper:", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = unix.Shutdown(keeper, unix.SHUT_RDWR)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it waits for a keeper that is gone")
	}
}

// After a keeper's end another gets all that is kept, and hears what comes.
func TestRenew(t *testing.T) {
	server, old := pair(t)
	s := fdstore.New(map[string]int{"keeper": server, "sealed": owned(t, "the arena")}, "")
	if err := s.Keep("ledger", file(t, "the ledger")); err != nil {
		t.Fatal(err)
	}
	_ = unix.Shutdown(old, unix.SHUT_RDWR)
	if err := s.WaitKeeper(); err != nil {
		t.Fatal(err)
	}
	keeper, held, err := s.Renew()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(keeper)
	patient(t, keeper)
	if len(held) != 2 || says(t, held["ledger"]) != "the ledger" || says(t, held["sealed"]) != "the arena" {
		t.Errorf("it is to hold %v", held)
	}
	for name, fd := range held {
		if !closeOnExec(t, fd) {
			t.Errorf("%s goes to every child", name)
		}
		_ = unix.Close(fd) // the keeper's copy, not the store's
	}
	if got, want := s.Names(), []string{"ledger", "sealed"}; !slices.Equal(got, want) {
		t.Errorf("holds %v, want %v", got, want)
	}
	if fd, ok := s.Take("ledger"); !ok || says(t, fd) != "the ledger" {
		t.Error("the store's own copy is gone")
	}
	if err := s.Keep("abort", file(t, "new")); err != nil {
		t.Fatal(err)
	}
	if got, want := receive(t, keeper), (message{"FDSTORE=1\nFDNAME=abort\nFDPOLL=0", "new"}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// The socket that the program hands on is the new one.
	ended := make(chan error, 1)
	go func() { ended <- s.WaitKeeper() }()
	_ = unix.Shutdown(keeper, unix.SHUT_RDWR)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A store that cannot be copied is as it was: nothing is left open, and the socket is the old one, so that the next try
// finds that the keeper is gone.
func TestRenewFails(t *testing.T) {
	for range 8 { // maps have no order: the bad one is to be met after some that are copied
		server, old := pair(t)
		s := fdstore.New(map[string]int{
			"keeper": server, "bad": 99999, "a": owned(t, "a"), "b": owned(t, "b"), "c": owned(t, "c"),
		}, "")
		before := openDescriptors(t)
		if keeper, held, err := s.Renew(); err == nil || keeper >= 0 || held != nil {
			t.Fatalf("got %d, %v, %v, want an error", keeper, held, err)
		}
		if after := openDescriptors(t); !slices.Equal(before, after) {
			t.Errorf("%d are open, before %d", len(after), len(before))
		}
		if err := s.Notify("READY=1"); err != nil {
			t.Error("the old socket is gone:", err)
		}
		if got := receive(t, old); got.text != "READY=1" {
			t.Errorf("got %q", got)
		}
	}
}

func openDescriptors(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range list {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // not the one that reads them
			open = append(open, e.Name()+" "+to)
		}
	}
	return open
}

func TestConcurrent(t *testing.T) {
	server, keeper := pair(t)
	s := fdstore.New(map[string]int{"keeper": server}, "")
	const workers, each = 8, 20
	var wg sync.WaitGroup
	for w := range workers {
		text := fmt.Sprint(w)
		fd := file(t, text)
		wg.Go(func() {
			for range each {
				if err := s.Keep(text, fd); err != nil {
					t.Error(err)
				}
				if got, ok := s.Take(text); ok {
					_ = unix.Close(got)
				}
				_ = s.Names()
				s.Drop(text)
			}
		})
	}
	// A descriptor comes with the name that it was kept under, whatever the others do.
	stored := 0
	for range 2 * workers * each {
		if m := receive(t, keeper); m.file != "" {
			if stored++; m.text != "FDSTORE=1\nFDNAME="+m.file+"\nFDPOLL=0" {
				t.Errorf("got %q", m)
			}
		}
	}
	wg.Wait()
	if stored != workers*each || len(s.Names()) != 0 {
		t.Errorf("%d stored, %v left", stored, s.Names())
	}
}
