package sealed_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/sealed"
)

// TestMain lets the test binary be the writer that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child-put" {
		fmt.Fprintln(os.Stderr, childPut(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// fresh is an arena as root's.
func fresh(t testing.TB) *sealed.Arena {
	t.Helper()
	if err := sealed.Supported(); err != nil {
		t.Skip(err)
	}
	a, err := sealed.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// open is what the next server does with the descriptor.
func open(t fataler, a *sealed.Arena) *sealed.Arena {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(a.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	next, err := sealed.Open(fd)
	if err != nil {
		_ = unix.Close(fd)
		t.Fatal("open:", err)
	}
	return next
}

// reopened is open, until the test ends.
func reopened(t testing.TB, a *sealed.Arena) *sealed.Arena {
	t.Helper()
	next := open(t, a)
	t.Cleanup(func() { _ = next.Close() })
	return next
}

func put(t fataler, a *sealed.Arena, k sealed.Kind, id uint64, meta, body string) {
	t.Helper()
	if err := a.Put(k, id, []byte(meta), []byte(body)); err != nil {
		t.Fatal("put:", err)
	}
}

// get is an object's parts with a stroke between, "none" for no object.
func get(a *sealed.Arena, k sealed.Kind, id uint64) string {
	meta, body, ok := a.Get(k, id)
	if !ok {
		return "none"
	}
	return string(meta) + "|" + string(body)
}
