package daemon

import (
	"fmt"
	"os"

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
		// A page that is not there when the process is killed costs the request that the kernel was just copying: it
		// would end with EIO. Nothing goes to swap either.
		_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
		if err := unix.Setgroups(nil); err != nil {
			return fmt.Errorf("drop supplementary groups: %w", err)
		}
	}
	return nil
}
