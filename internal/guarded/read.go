// Package guarded reads the operator's files: the policy, the configuration, the base of the settings. Whoever can change
// one of them has every account, so a file that others than root and our own uid can change is nobody's word.
package guarded

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

// ErrExposed: others than root and who reads a file may change it. The message names what to change.
var ErrExposed = errors.New("others may change it")

// maxLinks is the kernel's own bound for the symlinks on a way (path_resolution(7)).
const maxLinks = 40

// ReadFile reads a file, at most limit bytes of it. It is ErrExposed when others can change it, replace it, or lead its
// name to another one. The file that is judged is the one that is read.
func ReadFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := judge(file, info); err != nil {
		return nil, err
	}
	if err := judgeWay(file); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// judgeWay judges each directory and each symlink that is passed on the way to a file.
func judgeWay(file string) error {
	abs, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	dir, ahead, links := "/", strings.Split(abs, "/"), 0
	for len(ahead) > 0 {
		name := ahead[0]
		ahead = ahead[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir) // passed already: what dir names has no symlink in it
			continue
		}
		at, target, err := pass(dir, name)
		if err != nil {
			return err // Fail closed: nobody knows who may write there
		}
		if target == "" {
			dir = at
			continue
		}
		if links++; links > maxLinks {
			return &iofs.PathError{Op: "open", Path: file, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		ahead = append(strings.Split(target, "/"), ahead...)
	}
	return nil
}

// pass judges a directory and, if it is a symlink, the name in it that is looked up next. target is where that leads.
func pass(dir, name string) (at, target string, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return "", "", err
	}
	if err := judge(dir, info); err != nil {
		return "", "", err
	}
	at = filepath.Join(dir, name)
	if info, err = os.Lstat(at); err != nil || info.Mode()&os.ModeSymlink == 0 {
		return at, "", err
	}
	// In a sticky directory its owner may still put another one there.
	if err := judgeOwner(at, info); err != nil {
		return "", "", err
	}
	target, err = os.Readlink(at)
	return at, target, err
}

// judge says who else may write to a file, or put other files in a directory's; nil for nobody. In a sticky directory
// nobody can replace what is not theirs.
func judge(path string, info iofs.FileInfo) error {
	if err := judgeOwner(path, info); err != nil {
		return err
	}
	if info.IsDir() && info.Mode()&os.ModeSticky != 0 {
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

func judgeOwner(path string, info iofs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%w: nobody knows who owns %s", ErrExposed, path) // Fail closed
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s is uid %d's: chown -h it to root, or move the file", ErrExposed, path, st.Uid)
	}
	return nil
}
