package fs

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/serve"
)

// maxTrees bounds the trees that are known at once: each holds a descriptor for good.
const maxTrees = 4096

// rootNode is the mount's top directory: one directory per tree, for those who may enter it.
type rootNode struct {
	fusefs.Inode
	cfg  *Config
	born time.Time

	mu    sync.Mutex
	trees map[string]*treeNode
}

var (
	_ fusefs.NodeLookuper  = (*rootNode)(nil)
	_ fusefs.NodeReaddirer = (*rootNode)(nil)
	_ fusefs.NodeGetattrer = (*rootNode)(nil)
	_ fusefs.NodeMkdirer   = (*rootNode)(nil)
	_ fusefs.NodeAccesser  = (*rootNode)(nil)
)

// Getattr implements fs.NodeGetattrer. Anybody may pass and list; Enter and List decide what there is.
func (r *rootNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = syscall.S_IFDIR|0o555, 2
	out.SetTimes(&r.born, &r.born, &r.born)
	return 0
}

// Access implements fs.NodeAccesser.
func (r *rootNode) Access(_ context.Context, mask uint32) syscall.Errno {
	if mask&2 != 0 { // W_OK
		return syscall.EACCES
	}
	return 0
}

// Lookup implements fs.NodeLookuper. The entry is not cached: who may enter is asked each time.
func (r *rootNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if serve.Reviving(ctx) == nil {
		if err := r.cfg.Gate.Enter(ctx, callerOf(ctx), name); err != nil {
			return nil, errno(err)
		}
	}
	t, err := r.tree(ctx, name)
	if err != nil {
		r.cfg.Log.Error("Tree is not usable", "tree", name, "err", err)
		return nil, errno(err)
	}
	var attr fuse.AttrOut
	if e := t.Getattr(ctx, nil, &attr); e != 0 {
		return nil, e
	}
	out.Attr = attr.Attr
	return t.EmbeddedInode(), 0
}

// tree returns the node of a tree, made at first use and kept: it holds the descriptor of the backing directory, and
// a container's bind mount pins it anyway.
func (r *rootNode) tree(ctx context.Context, name string) (*treeNode, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.trees[name]; ok {
		return t, nil
	}
	if len(r.trees) >= maxTrees {
		return nil, syscall.ENFILE
	}
	dir, err := r.cfg.Gate.StateDir(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open state directory of tree %s: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("open state directory of tree %s: %w", name, err)
	}
	t := newTreeNode(r.cfg, name, fd, &st)
	ch := r.NewPersistentInode(ctx, t, fusefs.StableAttr{Mode: syscall.S_IFDIR, Ino: virtualIno | credentialIno(name+"\x00tree", 0)})
	r.AddChild(name, ch, true)
	t.restore(ctx)
	r.trees[name] = t
	return t, nil
}

func newTreeNode(cfg *Config, name string, fd int, st *unix.Stat_t) *treeNode {
	t := &treeNode{cfg: cfg, name: name, dir: fd, born: time.Unix(st.Mtim.Unix()), drafts: map[string]*draftNode{}}
	t.stateNode.tree = t
	return t
}

// Mkdir implements fs.NodeMkdirer: trees come from the policy, not from mkdir.
func (r *rootNode) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

// Readdir implements fs.NodeReaddirer: the caller's own trees.
func (r *rootNode) Readdir(ctx context.Context) (fusefs.DirStream, syscall.Errno) {
	var out []fuse.DirEntry
	for _, name := range r.cfg.Gate.List(ctx, callerOf(ctx)) {
		out = append(out, fuse.DirEntry{Name: name, Mode: syscall.S_IFDIR})
	}
	return fusefs.NewListDirStream(out), 0
}
