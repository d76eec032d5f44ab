package fs

import (
	"testing"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

// No handle takes ioctls or hands out its descriptor: both would act on the backing file with the daemon's rights. A
// new method of a go-fuse type must not come in by embedding.
func TestHandlesTakeNoIoctl(t *testing.T) {
	for _, h := range []any{&stateHandle{}, &dirHandle{}, &listing{}, &snapshotHandle{}, shownHandle{}, &changeHandle{}, draftHandle{}} {
		if _, ok := h.(fusefs.FileIoctler); ok {
			t.Errorf("%T takes ioctls", h)
		}
		if _, ok := h.(fusefs.FilePassthroughFder); ok {
			t.Errorf("%T hands out its descriptor", h)
		}
		if _, ok := h.(fusefs.FileSetlker); ok {
			t.Errorf("%T takes locks, which are the kernel's", h)
		}
	}
	for _, n := range []any{&stateNode{}, &treeNode{}, &rootNode{}, &credentialNode{}, &draftNode{}, &lockNode{}} {
		if _, ok := n.(fusefs.NodeIoctler); ok {
			t.Errorf("%T takes ioctls", n)
		}
	}
}
