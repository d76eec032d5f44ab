package fs

import (
	"context"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/serve"
)

// keyGen tells API keys from other virtual files.
const keyGen = 3

// keyNode is one version of a tree's .api-key: as a credential file, but that nobody can write it.
type keyNode struct{ credentialNode }

var _ fusefs.NodeOpener = (*keyNode)(nil)

func isKey(k ledger.Key) bool { return k.Ino&virtualIno != 0 && k.Gen == keyGen }

func keyIno(tree string, version uint64) uint64 { return credentialIno(tree+"\x00key", version) }

func (t *treeNode) lookupKey(ctx context.Context, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	if r := serve.Reviving(ctx); r != nil && r.Node != nil {
		return t.key(ctx, r.Node.Key.Ino, Stat{Size: int64(r.Node.Size), ModTime: time.Unix(0, r.Node.MTime)}, out), 0
	}
	st, err := t.cfg.Keys.KeyStat(t.name)
	if err != nil {
		return nil, errno(err)
	}
	return t.key(ctx, keyIno(t.name, st.Version), st, out), 0
}

func (t *treeNode) key(ctx context.Context, ino uint64, st Stat, out *fuse.EntryOut) *fusefs.Inode {
	n := &keyNode{credentialNode{tree: t, stat: st}}
	n.attr(ctx, &out.Attr)
	return t.NewInode(ctx, n, fusefs.StableAttr{Mode: syscall.S_IFREG, Ino: ino, Gen: keyGen})
}

// Open implements fs.NodeOpener.
func (n *keyNode) Open(ctx context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if r := serve.Reviving(ctx); r != nil {
		return n.tree.reopenCredential(uint64(r.Object), flags)
	}
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY || flags&syscall.O_TRUNC != 0 {
		return nil, 0, syscall.EACCES
	}
	snap, err := n.tree.cfg.Keys.OpenKey(ctx, callerOf(ctx), n.tree.name)
	if err != nil {
		return nil, 0, errno(err)
	}
	return n.disclose(snap)
}
