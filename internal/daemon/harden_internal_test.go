package daemon

import (
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What go-fuse reads requests into is there before the kernel copies one to it: wherever the heap begins, which the
// runtime draws for each process, and after a start that took much memory.
func TestNewMemoryIsThere(t *testing.T) {
	if start := os.Getenv("START"); start != "" {
		startAndRead(t, start == "first")
		return
	}
	if !mayLock() {
		t.Skip("needs CAP_IPC_LOCK")
	}
	for start, times := range map[string]int{"first": 1, "later": 24} {
		for range times {
			child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestNewMemoryIsThere$")
			child.Env = append(os.Environ(), "START="+start, "GORACE=atexit_sleep_ms=0") // else a second for each
			if out, err := child.CombinedOutput(); err != nil {
				t.Fatalf("%s start: %v\n%s", start, err, out)
			}
		}
	}
}

func startAndRead(t *testing.T, first bool) {
	ballast := make([]byte, 20<<20) // a third of all heaps then reach into another arena
	if first {
		clear(make([]byte, 128<<20)) // as deriving a key does
	}
	stayResident(first)
	for _, when := range []string{"at first", "after memory was given back"} {
		buffers := make([][]byte, 32)
		for i := range buffers {
			buffers[i] = make([]byte, 136<<10)
			if n := absent(t, buffers[i]); n > 0 {
				t.Fatalf("%s: %d pages of buffer %d are not there", when, n, i)
			}
		}
		runtime.KeepAlive(buffers)
		debug.FreeOSMemory()
	}
	runtime.KeepAlive(ballast)
}

// absent counts the pages of b that are not in memory.
func absent(t *testing.T, b []byte) (n int) {
	t.Helper()
	there := make([]byte, len(b)/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&there[0])))
	if errno != 0 {
		t.Fatalf("mincore: %v", errno)
	}
	for _, page := range there {
		if page&1 == 0 {
			n++
		}
	}
	return n
}
