package fs

import (
	"bytes"
	"context"
	"slices"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/serve"
)

// SettingsFiles are the names in a tree's top directory under which a client finds what can divert it. The files are
// state and lie on disk as they were written; readers are shown what Settings makes of them.
//
// What counts is the inode that the name leads to: the kernel opens inodes, and a file may have other names too.
var SettingsFiles = []string{"settings.json", "settings.local.json", "cowork_settings.json", ".claude.json", ".config.json", "remote-settings.json"}

func isSettings(name string) bool { return slices.Contains(SettingsFiles, name) }

// settings is the name of SettingsFiles that the node has, or had: who resolved the name before another file got it must
// not be shown what is not filtered either.
func (n *stateNode) settings() (name string, ok bool) {
	for _, name := range SettingsFiles {
		if n.tree.GetChild(name) == n.EmbeddedInode() {
			n.shownAs.Store(&name)
			return name, true
		}
	}
	if had := n.shownAs.Load(); had != nil {
		return *had, true
	}
	return "", false
}

// becomes notes that the node is about to get a name, if that is of SettingsFiles.
func (n *stateNode) becomes(name string) {
	if isSettings(name) {
		n.shownAs.Store(&name)
	}
}

// locked reports whether a name of the top directory is a file that the tree cannot change.
func (t *treeNode) locked(name string) bool {
	return isSettings(name) && t.cfg.Settings.Locked(t.name, name)
}

// admit is 0 when a file of the kind may get the name. A symlink would lead the client to what is not filtered, and
// what comes out of a FIFO never passes here.
func (t *treeNode) admit(name string, kind uint32) syscall.Errno {
	switch {
	case !isSettings(name):
		return 0
	case t.cfg.Settings.Locked(t.name, name):
		return syscall.EROFS
	case kind != 0 && kind != syscall.S_IFREG: // mknod(2) takes 0 for a regular file
		return syscall.EACCES // Fail closed
	}
	return 0
}

// lookupSettings is Lookup for a name of SettingsFiles. A file that the tree does not have, and that is shown all the
// same, is made: as the caller, and empty.
func (t *treeNode) lookupSettings(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	ch, e := t.stateNode.Lookup(ctx, name, out)
	if e == syscall.ENOENT && serve.Reviving(ctx) == nil && t.shows(name) {
		ch, e = t.made(ctx, name, out, func(dir int) error { return touch(dir, name) })
	}
	if e != 0 {
		return nil, e
	}
	n, ok := ch.Operations().(*stateNode)
	if !ok {
		return nil, syscall.EIO
	}
	n.becomes(name)
	switch ch.StableAttr().Mode {
	case syscall.S_IFREG:
		out.SetAttrTimeout(0)
		// Not as the node: go-fuse does not know it yet, and the names are held already.
		e = t.showSize(name, &out.Attr, func(flags int) (int, error) { return t.open(name, flags, 0) })
	case syscall.S_IFDIR, syscall.S_IFLNK: // a link may be removed; Readlink does not tell where it leads
	default:
		e = syscall.EACCES // Fail closed: the kernel reads a FIFO without us
	}
	if e != 0 {
		return nil, e
	}
	return ch, 0
}

// shows reports whether there is something to show under a name that the tree has not.
func (t *treeNode) shows(name string) bool {
	shown, err := t.cfg.Settings.Show(t.name, name, nil)
	return err == nil && shown != nil
}

func touch(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// createSettings is Create for a name of SettingsFiles.
func (t *treeNode) createSettings(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	if t.cfg.Settings.Locked(t.name, name) {
		return nil, nil, 0, syscall.EROFS
	}
	ch, fh, _, e := t.stateNode.Create(ctx, name, flags, mode, out)
	if e != 0 {
		return nil, nil, 0, e
	}
	out.SetAttrTimeout(0)
	h, ok := fh.(*stateHandle)
	if !ok || flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return ch, fh, cacheFlags(true), 0
	}
	// A reader sees none of what is written from now on.
	own, err := readWhole(h.fd())
	_ = h.Release(ctx)
	if err != nil {
		return nil, nil, 0, fusefs.ToErrno(err)
	}
	fh, ff, e := h.node.snapshot(name, own)
	return ch, fh, ff, e
}

// admitRename looks at a rename that changes what a name of SettingsFiles leads to. The kernel holds both directories
// meanwhile, so nothing else gets the names.
func (n *stateNode) admitRename(ctx context.Context, name string, to *stateNode, newName string, flags uint32) syscall.Errno {
	if n.isTop() && n.tree.locked(name) {
		return syscall.EROFS
	}
	if to.isTop() && isSettings(newName) {
		if e := n.become(ctx, name, newName); e != 0 {
			return e
		}
	}
	if flags&unix.RENAME_EXCHANGE != 0 && n.isTop() && isSettings(name) {
		return to.become(ctx, newName, name)
	}
	return 0
}

// become prepares the file name of the directory n for being the tree's settings file as. Only the tree's own part of
// it is to stay.
func (n *stateNode) become(ctx context.Context, name, as string) syscall.Errno {
	var st unix.Stat_t
	e := n.inside(func(dir int) error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if e == 0 {
		e = n.tree.admit(as, st.Mode&syscall.S_IFMT)
	}
	if e != 0 {
		return e
	}
	if child := n.stateChild(name); child != nil {
		child.becomes(as)
	}
	return n.tree.asCaller(ctx, func() syscall.Errno {
		return n.inside(func(dir int) error {
			fd, err := openBeneath(dir, name, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
			if err != nil {
				return nil // one who may not write the file cannot have written the base into it
			}
			defer unix.Close(fd)
			return n.tree.keepOwn(fd, as)
		})
	})
}

// keepOwn leaves in a file what Settings keeps of it. Done twice it changes nothing more.
func (t *treeNode) keepOwn(fd int, as string) error {
	written, err := readWhole(fd)
	if err != nil {
		return err
	}
	own, err := t.cfg.Settings.Keep(t.name, as, written)
	if err != nil {
		return errno(err)
	}
	if bytes.Equal(own, written) {
		return nil
	}
	if err := writeWhole(fd, own); err != nil {
		return err
	}
	return unix.Fsync(fd) // its writer may have done so
}
