package fs_test

import (
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
)

// exceptions are the cases of go-fuse's POSIX suite that do not hold here, with the reason.
var exceptions = map[string]string{
	"FcntlFlockLocksFile": "go-fuse's own suite runs it for mounts with EnableLocks only; locks are the kernel's here",
	"OpenSymlinkRace":     "go-fuse's own suite runs it for its loopback test alone: it takes minutes",
	"XAttr":               "no extended attributes: docs/semantics.md",
	"XAttrLarge":          "no extended attributes: docs/semantics.md",
}

func TestPOSIX(t *testing.T) {
	names := make([]string, 0, len(posixtest.All))
	for name := range posixtest.All {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			if why, ok := exceptions[name]; ok {
				t.Skip(why)
			}
			m := mount(t)
			m.clear("content") // several cases want an empty directory
			posixtest.All[name](t, m.tree)
		})
	}
}
