package serve

import (
	"context"
	"sync"

	"github.com/claudefs/claudefs/internal/ledger"
)

// Revival is what the file system is told of a node or handle that an earlier process gave to the kernel. Whoever asked
// for it was permitted then, so the file system asks nobody now, and acts with its own rights.
type Revival struct {
	Node *ledger.Node
	// Object is the sealed object of a handle, 0 for none.
	Object uint32
	// Orphan says that the file has no name any more.
	Orphan bool

	done chan struct{}
}

// revivals are those under way, by the channel that their context ends with. No request of the kernel has such a
// channel, so none can pass for a revival.
var revivals sync.Map

func begin(r *Revival) *Revival {
	r.done = make(chan struct{})
	revivals.Store((<-chan struct{})(r.done), r)
	return r
}

func (r *Revival) end() { revivals.Delete((<-chan struct{})(r.done)) }

// Reviving returns the revival that a call of the file system belongs to, nil for a request of the kernel's.
func Reviving(ctx context.Context) *Revival {
	if v, ok := revivals.Load(ctx.Done()); ok {
		return v.(*Revival)
	}
	return nil
}

// objectShift is where an open's flags carry the sealed object of its handle; the kernel's flags are below.
const objectShift = 8

// WithObject adds the number of a sealed object, of at most 24 bits, to the flags that an Open returns.
func WithObject(flags uint32, object uint64) uint32 { return flags | uint32(object)<<objectShift }

// splitObject takes them apart again.
func splitObject(flags uint32) (kernel, object uint32) {
	return flags & (1<<objectShift - 1), flags >> objectShift
}
