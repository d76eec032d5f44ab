package fs

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// describeAt describes what has a path below dir.
func describeAt(dir int, rel string, id *fusefs.StableAttr, out *fuse.Attr) error {
	fd, err := openBeneath(dir, rel, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return describe(fd, id, out)
}

// describe fills in the attributes of an open backing file, and which file it is unless id is nil.
func describe(fd int, id *fusefs.StableAttr, out *fuse.Attr) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return err
	}
	out.Ino, out.Size, out.Blocks, out.Blksize = st.Ino, st.Size, st.Blocks, st.Blksize
	out.Mode, out.Nlink, out.Uid, out.Gid = uint32(st.Mode), st.Nlink, st.Uid, st.Gid
	out.Rdev = uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor))
	out.Atime, out.Atimensec = uint64(st.Atime.Sec), st.Atime.Nsec
	out.Mtime, out.Mtimensec = uint64(st.Mtime.Sec), st.Mtime.Nsec
	out.Ctime, out.Ctimensec = uint64(st.Ctime.Sec), st.Ctime.Nsec
	if id != nil {
		*id = fusefs.StableAttr{Mode: out.Mode & syscall.S_IFMT, Ino: st.Ino, Gen: generation(fd, &st)}
	}
	return nil
}

// generation tells a file from the others that have its inode number: on another file system, or before it, for the
// number comes again after an unlink. The later one has another time of birth or, where no such time is kept, another
// file handle.
func generation(fd int, st *unix.Statx_t) uint64 {
	b := binary.LittleEndian.AppendUint32(nil, st.Dev_major)
	b = binary.LittleEndian.AppendUint32(b, st.Dev_minor)
	if st.Mask&unix.STATX_BTIME != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(st.Btime.Sec))
		b = binary.LittleEndian.AppendUint32(b, st.Btime.Nsec)
	} else if handle, err := fileHandle(fd); err == nil {
		b = append(b, handle...)
	}
	h := fnv.New64a()
	_, _ = h.Write(b)
	return max(h.Sum64(), 1)
}

// handleFID is AT_HANDLE_FID of name_to_handle_at(2).
const handleFID = 0x200

var errFleeting = errors.New("a handle of FUSE is good only as long as the inode is cached")

// fileHandle is what the file system itself tells a file by. One that cannot open files by it may give it all the same,
// as a mere name, from Linux 6.5 on.
func fileHandle(fd int) ([]byte, error) {
	var fs unix.Statfs_t
	errs := unix.Fstatfs(fd, &fs)
	if errs != nil || fs.Type == unix.FUSE_SUPER_MAGIC {
		return nil, errors.Join(errs, errFleeting)
	}
	for _, flags := range []int{0, handleFID} {
		handle, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH|flags)
		if err == nil {
			return handle.Bytes(), nil
		}
		errs = errors.Join(errs, err)
	}
	return nil, errs
}
