package daemon

import (
	"fmt"
	"os"
	"runtime/debug"

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

// bufferSize is that of go-fuse's buffers for requests, about; buffers is how many are touched beforehand.
const (
	bufferSize = 136 << 10
	buffers    = 32
)

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
	// The heap has untouched memory already: use it once, in pieces as large as the buffers that will take it.
	touched := make([][]byte, buffers)
	for i := range touched {
		b := make([]byte, bufferSize)
		for p := 0; p < len(b); p += os.Getpagesize() {
			b[p] = 1
		}
		touched[i] = b
	}
}

// mayLock reports whether the process has CAP_IPC_LOCK, and so no limit for locked memory.
func mayLock() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
