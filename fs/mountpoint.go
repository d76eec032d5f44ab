package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrMountpoint: the directory cannot be mounted on. The text says why.
var ErrMountpoint = errors.New("mountpoint is not usable")

// ErrMounted: a live claudefs is mounted there.
var ErrMounted = fmt.Errorf("%w: claudefs is mounted there already", ErrMountpoint)

// ErrNotMounted: no claudefs is mounted there.
var ErrNotMounted = fmt.Errorf("%w: no claudefs is mounted there", ErrMountpoint)

// fsType is how our mounts show in mountinfo.
const fsType = "fuse.claudefs"

// Prepare makes mountpoint ready to be mounted on: an existing empty directory, or a new one, outside of the
// directories in private. A dead mount of ours is taken away first; it says so through repaired.
func Prepare(mountpoint string, private ...string) (repaired bool, err error) {
	abs, err := filepath.Abs(mountpoint)
	if err != nil {
		return false, fmt.Errorf("%w: %s: %w", ErrMountpoint, mountpoint, err)
	}
	for _, p := range private {
		if inside(abs, p) || inside(p, abs) {
			return false, fmt.Errorf("%w: %s and claudefs's own directory %s contain each other", ErrMountpoint, abs, p)
		}
	}
	if repaired, err = clearMount(abs); err != nil {
		return repaired, err
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return repaired, fmt.Errorf("%w: %w", ErrMountpoint, err)
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return repaired, fmt.Errorf("%w: %w", ErrMountpoint, err)
	}
	if len(entries) > 0 {
		return repaired, fmt.Errorf("%w: %s is not empty (it holds %s)", ErrMountpoint, abs, entries[0].Name())
	}
	return repaired, nil
}

// clearMount takes a dead claudefs away and refuses every live mount.
func clearMount(abs string) (repaired bool, err error) {
	switch err := checkOurs(abs); {
	case errors.Is(err, ErrNotMounted):
		return false, nil
	case err != nil:
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Stat(abs, &st); !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		return false, fmt.Errorf("%w: %s", ErrMounted, abs)
	}
	if err := detach(abs); err != nil {
		return false, fmt.Errorf("%w: dead mount: %w", ErrMountpoint, err)
	}
	return true, nil
}

// checkOurs is nil when the topmost mount at abs is a claudefs, ErrNotMounted when nothing is mounted there.
func checkOurs(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMountpoint, err)
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
		abs = filepath.Join(dir, filepath.Base(abs))
	}
	infos, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(abs))
	if err != nil {
		return fmt.Errorf("%w: read mount table: %w", ErrMountpoint, err)
	}
	if len(infos) == 0 {
		return fmt.Errorf("%w: %s", ErrNotMounted, abs)
	}
	all, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return i.Mountpoint != abs, false })
	if err != nil {
		return fmt.Errorf("%w: read mount table: %w", ErrMountpoint, err)
	}
	if top := all[len(all)-1]; top.FSType != fsType {
		return fmt.Errorf("%w: %s: another file system (%s) is mounted there", ErrMountpoint, abs, top.FSType)
	}
	return nil
}

func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
