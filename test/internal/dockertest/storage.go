package dockertest

import (
	"fmt"
	"syscall"
)

// overlayMagic is OVERLAYFS_SUPER_MAGIC of linux/magic.h.
const overlayMagic = 0x794c7630

// storageDriver returns the storage driver for a data root in dir: overlay2,
// or vfs where dir is itself on overlayfs (tests inside a container), because
// an overlay's upper layer cannot lie on another overlay.
func storageDriver(dir string) (string, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("stat file system of %s: %w", dir, err)
	}
	if st.Type == overlayMagic {
		return "vfs", nil
	}
	return "overlay2", nil
}
