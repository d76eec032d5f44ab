package identity

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrUnvouched: whoever serves the runtime has no say over the container.
var ErrUnvouched = fmt.Errorf("%w: the runtime's user does not own the container's user namespace", ErrDenied)

// Vouched checks that whoever serves the runtime may speak for the container: root for all, another user for those
// whose first process is in a user namespace that is that user's. What a user makes there is theirs anyway; for what is
// not, their runtime could say anything.
func (r *Resolver) Vouched(f *Facts) error { return r.vouched(f, r.proc.entry(f.InitPID)) }

// overflowUID stands for all that have no number here; two of them need not be the same.
const overflowUID = 65534

func (r *Resolver) vouched(f *Facts, init entry) error {
	switch {
	case f.Peer == nil || *f.Peer == overflowUID:
		// Fail closed: nobody known says it.
		return fmt.Errorf("%w: nobody knows who serves the runtime", ErrUnvouched)
	case *f.Peer == 0:
		return nil
	}
	fd, err := init.open("ns/user")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnvouched, err)
	}
	defer unix.Close(fd)
	owner, err := r.proc.owner(fd)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnvouched, err)
	}
	if owner != *f.Peer {
		return fmt.Errorf("%w: it is uid %d's, and the runtime uid %d's", ErrUnvouched, owner, *f.Peer)
	}
	return nil
}

// namespaceOwner asks the kernel for the uid that made a user namespace.
func namespaceOwner(fd int) (uint32, error) { return unix.IoctlGetUint32(fd, unix.NS_GET_OWNER_UID) }
