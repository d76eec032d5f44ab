package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// detach takes the mount out of the directory tree at once, bound or not.
func detach(mountpoint string) error {
	if os.Geteuid() == 0 {
		err := unix.Unmount(mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted any more
			return fmt.Errorf("unmount %s: %w", mountpoint, err)
		}
		return nil
	}
	if out, err := exec.Command("fusermount3", "-u", "-z", "--", mountpoint).CombinedOutput(); err != nil {
		return fmt.Errorf("unmount %s: %w: %s", mountpoint, err, out)
	}
	return nil
}

// Unmount takes a mount of ours away from outside, dead or alive. It refuses any other file system.
func Unmount(mountpoint string) error {
	if err := checkOurs(mountpoint); err != nil {
		return err
	}
	return detach(mountpoint)
}
