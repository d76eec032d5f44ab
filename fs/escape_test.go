package fs_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A directory is exchanged with a symlink that leads out of the tree while operations go on below it. Nothing outside
// may be made or changed: for a container's root this would be the host's root.
func TestSymlinkRaceStaysInTheTree(t *testing.T) {
	m := mount(t)
	outside := filepath.Join(filepath.Dir(m.dir), "outside")
	file := filepath.Join(outside, "f")
	for _, d := range []string{outside, m.path("a")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "f"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, m.path("s")); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	race := func(do func(dir int)) {
		wg.Go(func() {
			for time.Now().Before(end) {
				fd, err := unix.Open(m.path("a"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
				if err != nil {
					continue
				}
				for range 20 {
					do(fd)
				}
				_ = unix.Close(fd)
			}
		})
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			_ = unix.Renameat2(unix.AT_FDCWD, m.path("a"), unix.AT_FDCWD, m.path("s"), unix.RENAME_EXCHANGE)
		}
	})
	race(func(dir int) {
		if fd, err := unix.Openat(dir, "made", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644); err == nil {
			_ = unix.Close(fd)
		}
	})
	race(func(dir int) { _ = unix.Fchmodat(dir, "f", 0o777, 0); _ = unix.Fchmodat(dir, "f", 0o700, 0) })
	race(func(dir int) { _ = unix.Mkdirat(dir, "dir", 0o755); _ = unix.Symlinkat("x", dir, "link") })
	wg.Wait()
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory outside holds %v: %v", entries, err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 || st.Size() != 1 {
		t.Errorf("the file outside: %v %v", st, err)
	}
}
