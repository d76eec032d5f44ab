package sealed_test

import (
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/sealed"
)

// The system call by which a debugger or a memory scraper reads shows other memory and not this.
func TestNotReadableFromOutside(t *testing.T) {
	a := fresh(t)
	put(t, a, draft, 1, "meta", "body")
	ordinary, err := unix.Mmap(-1, 0, sealed.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(ordinary)
	copy(ordinary, "seen")
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for _, tc := range []struct {
		name string
		of   []byte
		ok   bool
	}{{"ordinary", ordinary, true}, {"sealed header", a.Mem(), false}, {"sealed object", a.Mem()[sealed.PageSize*97:], false}} {
		buf := make([]byte, 16)
		at := uintptr(unsafe.Pointer(&tc.of[0]))
		_ = tc.of[0] // the page is there
		n, err := unix.Pread(int(mem.Fd()), buf, int64(at))
		if (err == nil && n > 0) != tc.ok {
			t.Errorf("/proc/self/mem, %s: %d bytes, %v, want ok %v", tc.name, n, err, tc.ok)
		}
		local := []unix.Iovec{{Base: &buf[0], Len: 16}}
		n, err = unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: at, Len: 16}}, 0)
		if (err == nil && n > 0) != tc.ok {
			t.Errorf("process_vm_readv, %s: %d bytes, %v, want ok %v", tc.name, n, err, tc.ok)
		}
	}
	// Nor does reading the descriptor, which a keeper could do.
	if n, err := unix.Pread(a.FD(), make([]byte, 16), 0); err == nil && n > 0 {
		t.Errorf("pread of the descriptor: %d bytes", n)
	}
}

func TestAge(t *testing.T) {
	a := fresh(t)
	if got := a.Age(); got < 0 || got > time.Minute {
		t.Errorf("age of a new arena is %v", got)
	}
	a.Back(uint64(time.Hour))
	next := reopened(t, a)
	if got := next.Age(); got < time.Hour || got > time.Hour+time.Minute {
		t.Errorf("age is %v, want an hour", got)
	}
	next.Stamp()
	if got := a.Age(); got < 0 || got > time.Minute {
		t.Errorf("age after Stamp is %v", got)
	}
}

func memfd(t *testing.T, size int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestOpenRefuses(t *testing.T) {
	good, newer, none := fresh(t), fresh(t), fresh(t)
	newer.SetVersion(2)
	none.SetMagic(1)
	for _, tc := range []struct {
		name string
		fd   int
		want error
	}{
		{"good", good.FD(), nil},
		{"of another version", newer.FD(), sealed.ErrVersion},
		{"of another magic", none.FD(), sealed.ErrVersion},
		{"zeros", memfd(t, sealed.SmallSize), sealed.ErrVersion},
		{"of another size", memfd(t, sealed.SmallSize+1), sealed.ErrVersion},
		{"empty", memfd(t, 0), sealed.ErrVersion},
		{"no descriptor", 1 << 20, unix.EBADF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := sealed.Peek(tc.fd, draft, 1); !errors.Is(err, tc.want) {
				t.Errorf("peek: %v, want %v", err, tc.want)
			}
			if tc.want == nil {
				return // Open would own it
			}
			if _, err := sealed.Open(tc.fd); !errors.Is(err, tc.want) {
				t.Errorf("open: %v, want %v", err, tc.want)
			}
			// A refused descriptor is the caller's still.
			if _, err := unix.FcntlInt(uintptr(tc.fd), unix.F_GETFD, 0); (err == nil) != (tc.fd != 1<<20) {
				t.Errorf("descriptor: %v", err)
			}
		})
	}
}

func TestPeek(t *testing.T) {
	a := fresh(t)
	put(t, a, sealed.KindKey, 0, "meta", "key")
	put(t, a, sealed.KindKey, 1, "meta", "")
	put(t, a, draft, 0, "", "draft")
	before := string(a.Mem()[:sealed.PageSize])
	for _, tc := range []struct {
		kind sealed.Kind
		id   uint64
		want string
		none bool
	}{
		{sealed.KindKey, 0, "key", false},
		{sealed.KindKey, 1, "", false},
		{draft, 0, "draft", false},
		{draft, 1, "", true},
		{sealed.KindNotes, 0, "", true},
	} {
		got, err := sealed.Peek(a.FD(), tc.kind, tc.id)
		if err != nil || string(got) != tc.want || (got == nil) != tc.none {
			t.Errorf("%d of kind %d: %q, %v, want %q, none %v", tc.id, tc.kind, got, err, tc.want, tc.none)
		}
	}
	if string(a.Mem()[:sealed.PageSize]) != before {
		t.Error("Peek changes the arena")
	}
	a.Delete(sealed.KindKey, 0)
	if got, err := sealed.Peek(a.FD(), sealed.KindKey, 0); got != nil || err != nil {
		t.Errorf("after Delete: %q, %v", got, err)
	}
}
