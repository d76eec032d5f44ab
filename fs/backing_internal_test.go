package fs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// identify makes a file, says which it is, and removes it.
func identify(t *testing.T, dir string) (id fusefs.StableAttr) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := describe(int(f.Fd()), &id, &fuse.Attr{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	return id
}

// A file that got the inode number of a removed one is another file.
func TestInodeNumberUsedAgain(t *testing.T) {
	for name, dir := range map[string]string{"birth time": t.TempDir(), "no birth time": ext4WithoutBirthTime(t)} {
		t.Run(name, func(t *testing.T) {
			again := 0
			for range 1000 {
				a, b := identify(t, dir), identify(t, dir)
				if a == b {
					t.Fatalf("two files are %v", a)
				}
				if a.Ino == b.Ino {
					again++
				}
			}
			t.Logf("%d of 1000 numbers were used again", again)
			if again == 0 && name == "no birth time" {
				t.Error("no number was used again: nothing was tested")
			}
		})
	}
}

// ext4WithoutBirthTime is a directory on a file system whose inodes are too small for the time.
func ext4WithoutBirthTime(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root to mount a file system")
		}
		t.Skip("needs root to mount a file system")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"truncate", "--size=16M", image},
		{"mkfs.ext4", "-q", "-I", "128", image},
		{"mount", "-o", "loop", image, at},
	} {
		if out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	return at
}

// Two trees may lie on two file systems, which number their files alike.
func TestSameInodeNumberOnTwoFileSystems(t *testing.T) {
	st := unix.Statx_t{Ino: 12, Mask: unix.STATX_BTIME, Btime: unix.StatxTimestamp{Sec: 1}, Dev_minor: 1}
	one := generation(-1, &st)
	st.Dev_minor = 2
	if generation(-1, &st) == one {
		t.Error("the device does not matter")
	}
}
