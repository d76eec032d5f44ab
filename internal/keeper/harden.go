package keeper

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// harden keeps the keeper's memory and descriptors from others of its uid, and gives its capabilities up. As root it
// can still run a server that has them: a program that root executes gets those of the bounding set.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("harden keeper: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil
	}
	return dropCapabilities()
}

// dropCapabilities does so on every thread. It needs a program without cgo, as releases are built.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&none[0])), 0)
	if errno != 0 && errno != syscall.ENOTSUP {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}
