package identity

import (
	"fmt"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// ParseRoots reads a mountinfo table and returns the root field of every entry of the device major:minor.
func ParseRoots(table string, major, minor int) ([]string, error) {
	infos, err := mountinfo.GetMountsFromReader(strings.NewReader(ofDevice(table, fmt.Sprintf("%d:%d", major, minor))), nil)
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	roots := make([]string, 0, len(infos))
	for _, i := range infos {
		roots = append(roots, i.Root)
	}
	return roots, nil
}

// ofDevice keeps the lines of a device, and those that are no lines of a mount table, for the parser to refuse. To take
// whole lines apart that are of no interest would cost as much as all the rest of an attestation.
func ofDevice(table, device string) string {
	var kept strings.Builder
	for line := range strings.Lines(table) {
		// 36 35 98:0 /mnt1 /mnt2 …: mount id, parent id, device, root, mount point.
		_, rest, ok1 := strings.Cut(line, " ")
		_, rest, ok2 := strings.Cut(rest, " ")
		got, _, ok3 := strings.Cut(rest, " ")
		if got == device || !ok1 || !ok2 || !ok3 || !strings.Contains(got, ":") {
			kept.WriteString(line)
		}
	}
	return kept.String()
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
