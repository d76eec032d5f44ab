package fs

import (
	"context"
	"errors"
	iofs "io/fs"
	"os"
	"syscall"
)

// errno is the one table from the Source's errors to what a caller sees. A reader's signal is EINTR; what is not
// known is EIO, never a guess that lets somebody in.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		return syscall.EINTR
	case errors.Is(err, iofs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, iofs.ErrNotExist):
		return syscall.ENOENT
	case errors.Is(err, iofs.ErrExist):
		return syscall.EEXIST
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return syscall.EIO
	case errors.As(err, &e) && e != 0:
		return e
	}
	return syscall.EIO
}
