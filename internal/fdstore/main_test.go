package fdstore_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/fdstore"
)

// TestMain lets the test binary be a program that systemd starts: its descriptors begin at 3, which are the runtime's
// own in the process of the tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child-inherit" {
		if err := childInherit(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childInherit prints what the process inherits, name=text, and then what is left of its environment. LISTEN_PID=me
// stands for the number that systemd would give.
func childInherit() error {
	if os.Getenv("LISTEN_PID") == "me" {
		if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
			return err
		}
	}
	held, err := fdstore.Inherited(os.Getenv, os.Unsetenv)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		buf := make([]byte, 64)
		n, err := unix.Pread(held[name], buf, 0)
		if err != nil {
			return err
		}
		flags, err := unix.FcntlInt(uintptr(held[name]), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			return fmt.Errorf("%s goes to children: %w", name, err)
		}
		fmt.Printf("%s=%s\n", name, buf[:n])
	}
	for _, line := range os.Environ() {
		fmt.Println(line)
	}
	return nil
}
