package daemon

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// harden keeps the process's memory to itself: no core dump, no ptrace and no /proc/PID/mem for others of the same
// uid. Root on the host stays able to read it. Supplementary groups go too, so that acting as a caller carries none.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("harden process: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("harden process: %w", err)
	}
	if os.Geteuid() == 0 {
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("drop supplementary groups: %w", err)
		}
	}
	return nil
}

// stayResident keeps the process's memory from going away and has new memory there from the start. A process that is
// killed while the kernel copies a request to a page that is not there yet takes the request with it: the caller sees
// EIO, and nothing sends it again. Secrets do not go to swap either. It comes after the large sparse mappings, which
// must not be filled, and after a first start has given back what deriving a key from a passphrase took (128 MiB).
func stayResident(first bool) {
	if !mayLock() {
		return // with a limit, memory that is needed later could not be had
	}
	if first {
		debug.FreeOSMemory()
	}
	if unix.Mlockall(unix.MCL_CURRENT|unix.MCL_ONFAULT) != nil || unix.Mlockall(unix.MCL_FUTURE) != nil {
		return
	}
	fillHeap()
}

const (
	// arenaSize is how the runtime divides the heap's addresses. A heap begins anywhere in an arena, not at its start.
	arenaSize = 64 << 20
	// heapEnough is more than a server's heap needs. The runtime gives out low addresses first.
	heapEnough = 32 << 20
)

// fillHeap has the pages of the heap there that the runtime has got so far. Using memory again that the runtime gave
// back does not bring it back: it counts as cleared, and is not touched.
func fillHeap() {
	anchor := make([]byte, 64<<10) // too large for a stack
	near := uintptr(unsafe.Pointer(&anchor[0]))
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); n != 3 || mode != "rw-p" || to+arenaSize < near || from > near+arenaSize {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, min(to-from, heapEnough), unix.MADV_POPULATE_WRITE) // Linux 5.14
	}
	runtime.KeepAlive(anchor)
}

// mayLock reports whether the process has CAP_IPC_LOCK, and so no limit for locked memory.
func mayLock() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
