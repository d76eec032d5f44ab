package ledger_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/ledger"
)

func TestInit(t *testing.T) {
	for _, tc := range []struct {
		name           string
		request, reply []byte
		ok             bool
	}{
		{"empty", nil, nil, true},
		{"usual", bytes.Repeat([]byte{1}, 104), bytes.Repeat([]byte{2}, 80), true},
		{"largest", bytes.Repeat([]byte{0xff}, ledger.MaxBlob), bytes.Repeat([]byte{2}, 80), true},
		{"largest reply", bytes.Repeat([]byte{1}, 104), bytes.Repeat([]byte{0xff}, ledger.MaxBlob), true},
		{"request too large", make([]byte, ledger.MaxBlob+1), nil, false},
		{"reply too large", nil, make([]byte, ledger.MaxBlob+1), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fresh(t)
			mountpoint := strings.Repeat("m", ledger.MaxBlob)
			l.SetMount(mountpoint, 0x31)
			if err := l.SetInit(tc.request, tc.reply); (err == nil) != tc.ok {
				t.Fatalf("got %v, want ok %v", err, tc.ok)
			}
			if !tc.ok {
				tc.request, tc.reply = nil, nil
			}
			request, reply := reopened(t, l).Init()
			if !bytes.Equal(request, tc.request) || !bytes.Equal(reply, tc.reply) {
				t.Errorf("got %d and %d bytes, want %d and %d", len(request), len(reply), len(tc.request), len(tc.reply))
			}
			request, reply, err := ledger.Peek(l.FD())
			if err != nil || !bytes.Equal(request, tc.request) || !bytes.Equal(reply, tc.reply) {
				t.Errorf("peek: %d and %d bytes, %v", len(request), len(reply), err)
			}
			if got, dev := l.Mount(); got != mountpoint || dev != 0x31 {
				t.Errorf("mount is %.10q…, %#x", got, dev)
			}
		})
	}
}

func TestGeneration(t *testing.T) {
	l := fresh(t)
	for want := range uint64(3) {
		if got := l.Generation(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
		l.Begin()
		l = reopened(t, l)
	}
}

// memfd makes a file for Open to look at.
func memfd(t *testing.T, size int64, text string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Pwrite(fd, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
	return fd
}

// copied is a ledger's memory in a file that can be cut.
func copied(t *testing.T, l *ledger.Ledger, size int64) int {
	t.Helper()
	head := make([]byte, min(size, 1<<20))
	if _, err := unix.Pread(l.FD(), head, 0); err != nil {
		t.Fatal(err)
	}
	return memfd(t, size, string(head))
}

func TestOpenRefuses(t *testing.T) {
	l := fresh(t)
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	for _, tc := range []struct {
		name       string
		fd         int
		open, peek error
	}{
		{"whole", copied(t, l, ledger.Total), nil, nil},
		{"empty", memfd(t, 0, ""), ledger.ErrVersion, ledger.ErrVersion},
		{"cut in the header", copied(t, l, 4096), ledger.ErrVersion, ledger.ErrVersion},
		{"cut in the journal", copied(t, l, 20<<10), ledger.ErrVersion, ledger.ErrVersion},
		{"one byte short", copied(t, l, ledger.Total-1), ledger.ErrVersion, ledger.ErrVersion},
		{"larger", copied(t, l, ledger.Total+4096), ledger.ErrVersion, ledger.ErrVersion},
		{"zeros", memfd(t, ledger.Total, ""), ledger.ErrDamaged, ledger.ErrDamaged},
		{"something else", memfd(t, ledger.Total, "#!/bin/sh"), ledger.ErrDamaged, ledger.ErrDamaged},
		{"a pipe", int(pipe.Fd()), ledger.ErrVersion, ledger.ErrVersion},
		{"no descriptor", 1 << 20, unix.EBADF, unix.EBADF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, _, err := ledger.Peek(tc.fd); !errors.Is(err, tc.peek) {
				t.Errorf("peek: %v, want %v", err, tc.peek)
			}
			if _, err := ledger.Open(tc.fd); !errors.Is(err, tc.open) {
				t.Errorf("open: %v, want %v", err, tc.open)
			}
			// A refused descriptor is the caller's still.
			if _, err := unix.FcntlInt(uintptr(tc.fd), unix.F_GETFD, 0); (err == nil) != (tc.fd != 1<<20) {
				t.Errorf("descriptor: %v", err)
			}
		})
	}
}

// A keeper, or whoever else has the descriptor, cannot cut the memory off under the server.
func TestCannotBeCut(t *testing.T) {
	l := fresh(t)
	for _, size := range []int64{0, 4096, ledger.Total + 4096} {
		if err := unix.Ftruncate(l.FD(), size); !errors.Is(err, unix.EPERM) {
			t.Errorf("to %d: %v, want EPERM", size, err)
		}
	}
}
