package fs

import (
	"context"
	"os"
	"runtime"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/serve"
)

// callerOf returns the kernel's word on who sent the request.
func callerOf(ctx context.Context) identity.Caller {
	c, ok := fuse.FromContext(ctx)
	if !ok {
		return identity.Caller{} // TID 0: nobody, which every check refuses
	}
	return identity.Caller{TID: c.Pid, UID: c.Uid, GID: c.Gid}
}

// asCaller runs do with the caller's file system uid and gid, so that the kernel checks permissions on the backing
// files, and owns what is made there, as if the caller had come directly. Changing the file system uid away from 0
// also takes the file capabilities from the thread. Supplementary groups are not taken along (docs/semantics.md).
func asCaller(ctx context.Context, do func() syscall.Errno) syscall.Errno {
	if serve.Reviving(ctx) != nil {
		return do() // what the kernel holds was granted already, by a server that is gone
	}
	c, ok := fuse.FromContext(ctx)
	if !ok {
		return syscall.EACCES
	}
	if int(c.Uid) == os.Geteuid() && int(c.Gid) == os.Getegid() {
		return do()
	}
	if os.Geteuid() != 0 {
		// Fail closed: without root we cannot become the caller, and must not act for it with our own rights.
		return syscall.EACCES
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer becomeDaemon()
	// The gid first: without privilege it could not be changed any more.
	_, _ = unix.SetfsgidRetGid(int(c.Gid))
	_, _ = unix.SetfsuidRetUid(int(c.Uid))
	if uid, _ := unix.SetfsuidRetUid(-1); uid != int(c.Uid) {
		return syscall.EACCES // Fail closed: the kernel did not let us become the caller
	}
	if gid, _ := unix.SetfsgidRetGid(-1); gid != int(c.Gid) {
		return syscall.EACCES
	}
	return do()
}

// becomeDaemon gives the thread its own ids back. A thread that kept a caller's would serve others with them.
func becomeDaemon() {
	_, _ = unix.SetfsuidRetUid(os.Geteuid())
	_, _ = unix.SetfsgidRetGid(os.Getegid())
	if uid, _ := unix.SetfsuidRetUid(-1); uid != os.Geteuid() {
		// Fail closed: go-fuse recovers from panics and would use the thread again, so the process ends.
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}
}
