package identity

import (
	"fmt"
	"io"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// ParseRoots reads a mountinfo table and returns the root field of every entry of the device major:minor.
func ParseRoots(r io.Reader, major, minor int) ([]string, error) {
	infos, err := mountinfo.GetMountsFromReader(r, func(i *mountinfo.Info) (skip, stop bool) {
		return i.Major != major || i.Minor != minor, false
	})
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	roots := make([]string, 0, len(infos))
	for _, i := range infos {
		roots = append(roots, i.Root)
	}
	return roots, nil
}

// checkRoots reports whether the mount table holds tree itself. Holding the whole mount as well would let the caller
// reach every tree, so it denies.
func checkRoots(roots []string, tree string) error {
	found := false
	for _, r := range roots {
		switch {
		case r == "/":
			return ErrWholeMount
		case r == "/"+tree, strings.HasPrefix(r, "/"+tree+"/"):
			found = true
		}
	}
	if !found {
		return ErrNotMounted
	}
	return nil
}
