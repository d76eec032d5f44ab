package fs

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/serve"
)

// The names that are virtual in a tree's top directory.
const (
	credentialName = ".credentials.json"
	lockName       = ".oauth_refresh.lock"
	keyName        = ".api-key"
)

// virtualName reports whether a name in a tree's top directory never reaches the backing directory as a file: the
// credential file, every name that begins like it, the refresh lock, and the API key.
func virtualName(name string) bool {
	return strings.HasPrefix(name, credentialName) || name == lockName || name == keyName
}

// maxDrafts bounds the files that a tree's clients may have half-written beside the credential file.
const maxDrafts = 16

// treeNode is the top directory of a tree.
type treeNode struct {
	stateNode
	cfg  *Config
	name string
	dir  int       // O_PATH descriptor of the state directory, held for good
	born time.Time // when its state directory last changed before we served it

	memory budget
	sizes  shownSizes

	// moves keeps the tree's names still. go-fuse learns of a rename after it was done; in between, the paths of all
	// that was moved lead nowhere. A rename holds it alone until go-fuse knows, a lookup shares it until then.
	moves sync.RWMutex

	mu     sync.Mutex
	drafts map[string]*draftNode
	lock   lockState
}

var (
	_ fusefs.NodeLookuper = (*treeNode)(nil)
	_ fusefs.NodeCreater  = (*treeNode)(nil)
	_ fusefs.NodeRenamer  = (*treeNode)(nil)
)

// asSeen makes attributes look as the caller expects of its own directory or file. Timeouts stay 0: the next caller
// may be somebody else.
func asSeen(ctx context.Context, a *fuse.Attr) {
	c := callerOf(ctx)
	a.Uid, a.Gid = c.UID, c.GID
}

// Getattr implements fs.NodeGetattrer.
func (t *treeNode) Getattr(ctx context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if err := describe(t.dir, nil, &out.Attr); err != nil {
		return fusefs.ToErrno(err)
	}
	t.topAttr(ctx, &out.Attr)
	return 0
}

func (t *treeNode) topAttr(ctx context.Context, a *fuse.Attr) {
	a.Mode = syscall.S_IFDIR | 0o700
	a.Ino = t.StableAttr().Ino
	asSeen(ctx, a)
}

// Setattr implements fs.NodeSetattrer. Owner and mode of the top directory are what each caller sees as its own; a
// change of them is accepted and has no effect.
func (t *treeNode) Setattr(ctx context.Context, fh fusefs.FileHandle, _ *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	return t.Getattr(ctx, fh, out)
}

// restore makes what an earlier server kept of the tree: drafts and the lock.
func (t *treeNode) restore(ctx context.Context) {
	t.restoreDrafts(ctx)
	t.restoreLock()
}

// Lookup implements fs.NodeLookuper.
func (t *treeNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if r := serve.Reviving(ctx); r != nil && r.Orphan {
		if isCredential(r.Node.Key) {
			return t.lookupCredential(ctx, out) // the name is that of a newer version by now
		}
		if isKey(r.Node.Key) {
			return t.lookupKey(ctx, out)
		}
		return t.reviveOrphan(ctx, r.Node, out)
	}
	switch {
	case name == credentialName:
		return t.lookupCredential(ctx, out)
	case name == lockName:
		return t.lookupLock(ctx, out)
	case name == keyName:
		return t.lookupKey(ctx, out)
	case strings.HasPrefix(name, credentialName):
		if d := t.draft(name); d != nil {
			return d.entry(out), 0
		}
	case isSettings(name):
		return t.lookupSettings(ctx, name, out)
	}
	return t.stateNode.Lookup(ctx, name, out)
}

// Create implements fs.NodeCreater.
func (t *treeNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	switch {
	case name == credentialName:
		return t.createCredential(ctx, out)
	case name == lockName, name == keyName:
		return nil, nil, 0, syscall.EACCES
	case virtualName(name):
		return t.createDraft(ctx, name, flags, mode, out)
	case isSettings(name):
		return t.createSettings(ctx, name, flags, mode, out)
	}
	return t.stateNode.Create(ctx, name, flags, mode, out)
}

// Mkdir implements fs.NodeMkdirer. Directories that only begin like the credential file hold no credential and are
// state.
func (t *treeNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	switch name {
	case credentialName, keyName:
		return nil, syscall.EACCES
	case lockName:
		return t.takeLock(ctx, mode, out)
	}
	return t.stateNode.Mkdir(ctx, name, mode, out)
}

// Mknod implements fs.NodeMknoder.
func (t *treeNode) Mknod(ctx context.Context, name string, mode, dev uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if virtualName(name) {
		return nil, syscall.EACCES
	}
	if e := t.admit(name, mode&syscall.S_IFMT); e != 0 {
		return nil, e
	}
	return t.stateNode.Mknod(ctx, name, mode, dev, out)
}

// Symlink implements fs.NodeSymlinker.
func (t *treeNode) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if virtualName(name) {
		return nil, syscall.EACCES
	}
	if e := t.admit(name, syscall.S_IFLNK); e != 0 {
		return nil, e
	}
	return t.stateNode.Symlink(ctx, target, name, out)
}

// Link implements fs.NodeLinker.
func (t *treeNode) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	file, ok := target.(*stateNode)
	if !ok || virtualName(name) {
		return nil, syscall.EACCES
	}
	if e := t.admit(name, target.EmbeddedInode().StableAttr().Mode); e != 0 {
		return nil, e
	}
	file.becomes(name)
	return t.stateNode.Link(ctx, target, name, out)
}

// Unlink implements fs.NodeUnlinker.
func (t *treeNode) Unlink(ctx context.Context, name string) syscall.Errno {
	if name == credentialName {
		return t.removeCredential(ctx)
	}
	if name == keyName {
		return syscall.EACCES
	}
	if d := t.draft(name); d != nil {
		return t.removeDraft(ctx, d, name)
	}
	if t.locked(name) {
		return syscall.EROFS
	}
	return t.stateNode.Unlink(ctx, name)
}

// Rmdir implements fs.NodeRmdirer.
func (t *treeNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	if name == lockName {
		return t.dropLock(ctx)
	}
	return t.stateNode.Rmdir(ctx, name)
}

// Rename implements fs.NodeRenamer. A draft renamed over the credential file is how the client publishes.
func (t *treeNode) Rename(ctx context.Context, name string, newParent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	d := t.draft(name)
	switch {
	case d != nil:
		if newParent.EmbeddedInode() != t.EmbeddedInode() || flags != 0 {
			return syscall.EXDEV
		}
		return t.renameDraft(ctx, d, name, newName)
	case name == credentialName, name == lockName, name == keyName:
		return syscall.EACCES
	case flags != 0 && virtualName(name):
		return syscall.EINVAL // an exchange would bring a plain file to the name
	case newParent.EmbeddedInode() == t.EmbeddedInode() && virtualName(newName):
		if e := t.exists(name); e != 0 {
			return e // a draft that was published already is gone, and not on another file system
		}
		return syscall.EXDEV
	}
	return t.stateNode.Rename(ctx, name, newParent, newName, flags)
}

// OpendirHandle implements fs.NodeOpendirHandler.
func (t *treeNode) OpendirHandle(context.Context, uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return &listing{tree: t}, 0, 0
}

// entries lists the backing directory, as the caller, and what is virtual.
func (t *treeNode) entries(ctx context.Context) ([]fuse.DirEntry, syscall.Errno) {
	var list []fuse.DirEntry
	e := t.asCaller(ctx, func() syscall.Errno {
		ds, e := fusefs.NewLoopbackDirStream(procPath(t.dir))
		if e != 0 {
			return e
		}
		defer ds.Close()
		for ds.HasNext() {
			d, e := ds.Next()
			if e != 0 {
				return e
			}
			list = append(list, d)
		}
		return 0
	})
	return append(list, t.virtualEntries()...), e
}

func (t *treeNode) virtualEntries() []fuse.DirEntry {
	var out []fuse.DirEntry
	if st, err := t.cfg.Credentials.Stat(t.name); err == nil {
		out = append(out, fuse.DirEntry{Name: credentialName, Mode: syscall.S_IFREG, Ino: credentialIno(t.name, st.Version)})
	}
	if st, err := t.cfg.Keys.KeyStat(t.name); err == nil {
		out = append(out, fuse.DirEntry{Name: keyName, Mode: syscall.S_IFREG, Ino: keyIno(t.name, st.Version)})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name := range t.drafts {
		out = append(out, fuse.DirEntry{Name: name, Mode: syscall.S_IFREG})
	}
	if t.lock.held {
		out = append(out, fuse.DirEntry{Name: lockName, Mode: syscall.S_IFDIR})
	}
	return out
}
