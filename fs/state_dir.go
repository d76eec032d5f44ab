package fs

import (
	"context"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// stream is what an open directory needs of go-fuse's loopback stream. That one takes ioctls too, which would run with
// the daemon's rights, so it is kept behind these methods.
type stream interface {
	fusefs.FileReaddirenter
	fusefs.FileSeekdirer
	fusefs.FileReleasedirer
	fusefs.FileFsyncdirer
}

// dirHandle is an open directory of state files.
type dirHandle struct{ stream stream }

var (
	_ fusefs.FileReaddirenter = (*dirHandle)(nil)
	_ fusefs.FileSeekdirer    = (*dirHandle)(nil)
	_ fusefs.FileReleasedirer = (*dirHandle)(nil)
	_ fusefs.FileFsyncdirer   = (*dirHandle)(nil)
)

// openDir opens the directory behind an O_PATH descriptor for reading, as the thread's file system ids may.
func openDir(fd int) (*dirHandle, syscall.Errno) {
	ds, e := fusefs.NewLoopbackDirStream(procPath(fd))
	if e != 0 {
		return nil, e
	}
	s, ok := ds.(stream)
	if !ok {
		ds.Close()
		return nil, syscall.EIO
	}
	return &dirHandle{s}, 0
}

// Readdirent implements fs.FileReaddirenter.
func (d *dirHandle) Readdirent(ctx context.Context) (*fuse.DirEntry, syscall.Errno) {
	return d.stream.Readdirent(ctx)
}

// Seekdir implements fs.FileSeekdirer.
func (d *dirHandle) Seekdir(ctx context.Context, off uint64) syscall.Errno {
	return d.stream.Seekdir(ctx, off)
}

// Releasedir implements fs.FileReleasedirer.
func (d *dirHandle) Releasedir(ctx context.Context, flags uint32) { d.stream.Releasedir(ctx, flags) }

// Fsyncdir implements fs.FileFsyncdirer.
func (d *dirHandle) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return d.stream.Fsyncdir(ctx, flags)
}
