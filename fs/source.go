package fs

import (
	"context"
	"time"

	"github.com/claudefs/claudefs/internal/identity"
)

// Gate says which trees exist for whom. It decides by kernel facts alone and never asks a container runtime: a runtime
// that is just starting a container resolves our paths under that container's lock.
type Gate interface {
	// Enter is nil when the caller may pass into the tree's directory, fs.ErrNotExist when it is not there for it.
	Enter(ctx context.Context, c identity.Caller, tree string) error
	// Use is nil when the caller may touch the tree's state files. It is asked at every operation and has to be fast.
	Use(ctx context.Context, c identity.Caller, tree string) error
	// List names the trees that the caller sees, sorted.
	List(ctx context.Context, c identity.Caller) []string
	// StateDir returns the tree's directory for state files; it makes it at first use.
	StateDir(tree string) (string, error)
}

// Stat describes the credential file of a tree as of now.
type Stat struct {
	Version uint64 // another one for each content
	Size    int64
	ModTime time.Time
}

// Snapshot is the content of one open.
type Snapshot struct {
	Stat
	// Content belongs to the file system and is wiped when the handle is released.
	Content []byte
}

// Credentials answers for the credential file of a tree.
type Credentials interface {
	// Stat never blocks and identifies nobody; fs.ErrNotExist when the tree has logged itself out.
	Stat(tree string) (Stat, error)
	// Open attests the caller and renders the file. fs.ErrPermission: denied or login required.
	Open(ctx context.Context, c identity.Caller, tree string) (*Snapshot, error)
	// Write attests the caller for a change; the change itself comes later, from whatever thread closes the file.
	Write(ctx context.Context, c identity.Caller, tree string) (Change, error)
	// Redeem returns a change that an earlier server permitted, by its ticket.
	Redeem(tree string, ticket []byte) (Change, error)
}

// Change is a permitted change to a tree's credential file.
type Change interface {
	// Publish takes a whole new file. fs.ErrPermission when it is refused. id names this writing: published again under
	// the same one, by a server that cannot know that it was, it changes nothing.
	Publish(ctx context.Context, id string, content []byte) error
	// Remove takes the file away, for this tree alone.
	Remove(ctx context.Context) error
	// Ticket is what another server needs to go on with the change. It is kept in sealed memory only.
	Ticket() ([]byte, error)
}

// Keys answers for the file that holds a tree's API key.
type Keys interface {
	// KeyStat never blocks and identifies nobody; fs.ErrNotExist for a tree that has no such file.
	KeyStat(tree string) (Stat, error)
	// OpenKey attests the caller. fs.ErrPermission: denied, or there is no key.
	OpenKey(ctx context.Context, c identity.Caller, tree string) (*Snapshot, error)
}

// Settings answers for the files in a tree's top directory by which a client can be diverted (SettingsFiles).
type Settings interface {
	// Show is what a reader gets where the tree has written own. own is nil when the tree has no such file; nil is the
	// answer when there is none to be shown either.
	Show(tree, name string, own []byte) ([]byte, error)
	// Keep is the tree's own part of what is about to become the file.
	Keep(tree, name string, written []byte) ([]byte, error)
	// Locked reports whether the tree cannot change the file.
	Locked(tree, name string) bool
}

// Locks answers for the client's refresh lock.
type Locks interface {
	// Acquire is nil as soon as the tree's file holds a newer token than the tree has read, fs.ErrExist while none
	// can be had. It waits for a grant for a second at most.
	Acquire(ctx context.Context, c identity.Caller, tree string) error
	// Busy reports whether the daemon itself is still after a newer token for the tree.
	Busy(tree string) bool
}

// Screen looks at what is about to be written to a state file.
type Screen interface {
	// Check is fs.ErrPermission when the text holds a token that was handed to the tree.
	Check(tree string, text []byte) error
}
