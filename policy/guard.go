package policy

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrExposed: others than root and who reads a policy may change it.
var ErrExposed = errors.New("others may change the policy")

// maxText is more than a policy may have.
const maxText = 1 << 20

// readGuarded reads a file that nobody but root and our own uid can change: whoever can change a policy has every account.
// The file that is judged is the one that is read.
func readGuarded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := exposed(file, info, false); err != nil {
		return nil, err
	}
	if err := guardPlaces(file); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxText))
}

// guardPlaces judges the directories above a file, as it is named and where that leads by symlinks: who may rename what
// is in one of them can put another file in its place.
func guardPlaces(file string) error {
	named, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(named)
	if err != nil {
		return err
	}
	for _, path := range []string{named, real} {
		for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
			info, err := os.Stat(dir)
			if err != nil {
				return err // Fail closed: nobody knows who may write there
			}
			if err := exposed(dir, info, true); err != nil {
				return err
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return nil
}

// exposed says who else may write to a file, or put other files in a directory's; nil for nobody. In a sticky directory
// nobody can replace what is not theirs.
func exposed(path string, info iofs.FileInfo, dir bool) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%w: nobody knows who owns %s", ErrExposed, path) // Fail closed
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s is uid %d's: chown it to root, or move the policy", ErrExposed, path, st.Uid)
	}
	if dir && info.Mode()&os.ModeSticky != 0 {
		return nil
	}
	var who []string
	if info.Mode().Perm()&0o020 != 0 {
		who = append(who, "its group")
	}
	if info.Mode().Perm()&0o002 != 0 {
		who = append(who, "everybody")
	}
	if who == nil {
		return nil
	}
	return fmt.Errorf("%w: %s has mode %04o, so that %s may write: chmod go-w %s", ErrExposed, path, info.Mode().Perm(), strings.Join(who, " and "), path)
}
