package ledger_test

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/ledger"
)

// TestMain lets the test binary be the writer that is killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child-write" {
		fmt.Fprintln(os.Stderr, childWrite(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func fresh(t testing.TB) *ledger.Ledger {
	t.Helper()
	l, err := ledger.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

// open is what the next server does with the descriptor.
func open(t fataler, l *ledger.Ledger) *ledger.Ledger {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(l.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ledger.Open(fd)
	if err != nil {
		_ = unix.Close(fd)
		t.Fatal("open:", err)
	}
	return again
}

// reopened is open, until the test ends.
func reopened(t testing.TB, l *ledger.Ledger) *ledger.Ledger {
	t.Helper()
	again := open(t, l)
	t.Cleanup(func() { _ = again.Close() })
	return again
}

func file(ino uint64) ledger.Node {
	return ledger.Node{Key: ledger.Key{Ino: ino, Gen: 7, Type: unix.S_IFREG}}
}

func add(t fataler, l *ledger.Ledger, n ledger.Node, parent uint64, name string) *ledger.Node {
	t.Helper()
	got, err := l.Add(n, ledger.Name{Parent: parent, Name: name})
	if err != nil {
		t.Fatal("add:", err)
	}
	return got
}
