package serve

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fsName is how the mount shows in the mount table: source claudefs, type fuse.claudefs.
const fsName = "claudefs"

// maxTransfer bounds one READ or WRITE, in bytes.
const maxTransfer = 128 << 10

// Mount mounts a FUSE file system and returns its device, without a word of the protocol. Root mounts by itself,
// others through fusermount3.
func Mount(mountpoint string, allowOther bool) (device int, err error) {
	var opts []string
	if allowOther {
		opts = append(opts, "allow_other")
	}
	if os.Geteuid() != 0 {
		return mountBySetuid(mountpoint, opts)
	}
	device, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/fuse: %w", err)
	}
	opts = append(opts, fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,max_read=%d", device, os.Geteuid(), os.Getegid(), maxTransfer))
	if err := unix.Mount(fsName, mountpoint, "fuse."+fsName, unix.MS_NOSUID|unix.MS_NODEV, strings.Join(opts, ",")); err != nil {
		_ = unix.Close(device)
		return -1, fmt.Errorf("mount %s: %w", mountpoint, err)
	}
	return device, nil
}

// mountBySetuid has fusermount3 mount; it hands the device over through a socket.
func mountBySetuid(mountpoint string, opts []string) (device int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", mountpoint, err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "fusermount")
	opts = append(opts, "nosuid,nodev,fsname="+fsName+",subtype="+fsName, fmt.Sprintf("max_read=%d", maxTransfer))
	cmd := exec.Command("fusermount3", "-o", strings.Join(opts, ","), "--", mountpoint)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD="+strconv.Itoa(3))
	cmd.ExtraFiles = []*os.File{theirs}
	out, err := cmd.CombinedOutput()
	_ = theirs.Close()
	if err != nil {
		return -1, fmt.Errorf("mount %s: %s", mountpoint, strings.TrimSpace(string(out)))
	}
	return receive(pair[0])
}

func receive(socket int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 16), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("receive FUSE device: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("receive FUSE device: %w", errors.Join(err, errNoDevice))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("receive FUSE device: %w", errors.Join(err, errNoDevice))
	}
	return fds[0], nil
}

var errNoDevice = errors.New("fusermount3 sent none")
