package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

var (
	_ fusefs.NodeGetattrer      = (*stateNode)(nil)
	_ fusefs.NodeSetattrer      = (*stateNode)(nil)
	_ fusefs.NodeAccesser       = (*stateNode)(nil)
	_ fusefs.NodeReadlinker     = (*stateNode)(nil)
	_ fusefs.NodeStatfser       = (*stateNode)(nil)
	_ fusefs.NodeCopyFileRanger = (*stateNode)(nil)
)

// Getattr implements fs.NodeGetattrer.
func (n *stateNode) Getattr(ctx context.Context, fh fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.SetTimeout(stateTimeout)
	e := n.getattr(ctx, fh, out)
	if name, ok := n.settings(); ok && e == 0 {
		out.SetTimeout(0)
		e = n.tree.showSize(name, &out.Attr, n.opener(fh))
	}
	return e
}

// opener opens the node's file: by the handle if that is on the file itself, whatever became of the name.
func (n *stateNode) opener(fh fusefs.FileHandle) func(flags int) (int, error) {
	if h, ok := fh.(*stateHandle); ok {
		return func(flags int) (int, error) { return reopen(h.fd(), flags) }
	}
	return n.openSelf
}

func (n *stateNode) getattr(ctx context.Context, fh fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if h, ok := fh.(*stateHandle); ok {
		return h.Getattr(ctx, out)
	}
	// As the daemon: the caller has the inode already, and may look at it after it lost the right to go there.
	return n.here(func(fd int) error { return describe(fd, nil, &out.Attr) })
}

// Setattr implements fs.NodeSetattrer.
func (n *stateNode) Setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	name, special := n.settings()
	if special && n.tree.locked(name) {
		return syscall.EROFS
	}
	out.SetTimeout(stateTimeout)
	e := n.setattr(ctx, fh, in, out)
	if special && e == 0 {
		out.SetTimeout(0)
		e = n.tree.showSize(name, &out.Attr, n.opener(fh))
	}
	return e
}

func (n *stateNode) setattr(ctx context.Context, fh fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return n.tree.asCaller(ctx, func() syscall.Errno {
		if h, ok := fh.(*stateHandle); ok {
			return h.Setattr(ctx, in, out)
		}
		e := n.here(func(fd int) error {
			if err := setAttr(fd, in); err != nil {
				return err
			}
			return describe(fd, nil, &out.Attr)
		})
		if h := n.anyHandle(); e == syscall.ESTALE && h != nil {
			// fchmod and its kin carry no handle; on a deleted file that is still open there is no path either.
			return h.Setattr(ctx, in, out)
		}
		return e
	})
}

// setAttr changes the inode behind an O_PATH descriptor. Size comes before times, which a truncation would change.
func setAttr(fd int, in *fuse.SetAttrIn) error {
	if mode, ok := in.GetMode(); ok {
		if err := unix.Chmod(procPath(fd), mode); err != nil {
			return err
		}
	}
	uid, uidOK := in.GetUID()
	gid, gidOK := in.GetGID()
	if uidOK || gidOK {
		if err := unix.Fchownat(fd, "", orKeep(uid, uidOK), orKeep(gid, gidOK), unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if size, ok := in.GetSize(); ok {
		if err := unix.Truncate(procPath(fd), int64(size)); err != nil {
			return err
		}
	}
	return setTimes(fd, in)
}

// orKeep is -1, "leave it", for an id that is not to be set.
func orKeep(id uint32, set bool) int {
	if !set {
		return -1
	}
	return int(id)
}

func setTimes(fd int, in *fuse.SetAttrIn) error {
	atime, atimeOK := in.GetATime()
	mtime, mtimeOK := in.GetMTime()
	if !atimeOK && !mtimeOK {
		return nil
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	for i, t := range []struct {
		set  bool
		time time.Time
	}{{atimeOK, atime}, {mtimeOK, mtime}} {
		if !t.set {
			continue
		}
		ts, err := unix.TimeToTimespec(t.time)
		if err != nil {
			return err
		}
		times[i] = ts
	}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}

// Access implements fs.NodeAccesser: access(2), chdir(2). The backing file system answers, for the thread's file
// system ids and not its real ones.
func (n *stateNode) Access(ctx context.Context, mask uint32) syscall.Errno {
	if name, ok := n.settings(); ok && mask&unix.W_OK != 0 && n.tree.locked(name) {
		return syscall.EROFS
	}
	return n.tree.asCaller(ctx, func() syscall.Errno {
		return n.here(func(fd int) error {
			return unix.Faccessat2(fd, "", mask, unix.AT_EACCESS|unix.AT_EMPTY_PATH)
		})
	})
}

// Readlink implements fs.NodeReadlinker.
func (n *stateNode) Readlink(ctx context.Context) (target []byte, e syscall.Errno) {
	if _, ok := n.settings(); ok {
		// Fail closed: the link would lead the client to what is not filtered.
		return nil, syscall.EACCES
	}
	e = n.tree.asCaller(ctx, func() syscall.Errno {
		return n.here(func(fd int) error {
			buf := make([]byte, unix.PathMax)
			m, err := unix.Readlinkat(fd, "", buf)
			target = buf[:max(m, 0)]
			return err
		})
	})
	return target, e
}

// Statfs implements fs.NodeStatfser.
func (n *stateNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(n.tree.dir, &st); err != nil {
		return fusefs.ToErrno(err)
	}
	out.FromStatfsT(&st)
	return 0
}

// CopyFileRange implements fs.NodeCopyFileRanger between state files of one tree, whose own writes were screened.
func (n *stateNode) CopyFileRange(_ context.Context, in fusefs.FileHandle, offIn uint64, _ *fusefs.Inode,
	out fusefs.FileHandle, offOut, length, flags uint64,
) (uint32, syscall.Errno) {
	from, ok1 := in.(*stateHandle)
	to, ok2 := out.(*stateHandle)
	if !ok1 || !ok2 {
		return 0, syscall.EOPNOTSUPP // the kernel then reads and writes, and the writes are screened
	}
	a, b := int64(offIn), int64(offOut)
	n64, err := unix.CopyFileRange(from.fd(), &a, to.fd(), &b, int(min(length, 1<<30)), int(flags))
	return uint32(max(n64, 0)), fusefs.ToErrno(err)
}
