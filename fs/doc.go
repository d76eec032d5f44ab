// Package fs is the file system that containers see: a root with one directory per tree, and in each tree a virtual
// credential file, a virtual lock, and ordinary state files. It knows no policy and no vault; it asks a Source.
//
// # What is virtual
//
//	/                              root_node.go         trees the caller may enter; nothing can be made here
//	/<tree>                        tree_node.go         shown as owned by whoever looks, mode 0700
//	/<tree>/.credentials.json      credential_node.go   snapshot per open; one inode per version
//	/<tree>/.credentials.json*     draft_node.go        what a client writes, in memory only
//	/<tree>/.oauth_refresh.lock    lock_node.go         mkdir means "my token does not work"
//	/<tree>/.api-key               key_node.go          as the credential file, read-only
//	/<tree>/settings.json …        settings_node.go     state files that readers are shown filtered
//	/<tree>/**                     state_node.go        files below the state directory
//
// # Who checks permissions
//
// The mount has allow_other and no default_permissions. For virtual nodes the Source decides. For state files each
// operation runs on a thread with the caller's file system uid and gid (as_caller.go), so the backing file system
// checks and owns exactly as if the caller had done it there; docs/adr/0002 has the reasons and figures. Paths are
// resolved from the tree's own directory and confined to it (beneath.go), so the directories above it need not be open to
// callers, and no symlink leads anywhere else.
//
// # Caches
//
// Entry and attribute timeouts are 0 for everything virtual and one second for state files. Negative entries are not
// cached: a lock that another container makes must be seen at once.
//
// # Lock order
//
// treeNode.mu and treeNode.sizes.mu are leaves: nothing is called under them that can block. No lock is held
// over a call to the Source or to the backing file system.
//
// # Errors
//
// errno.go has the one table. Never let the daemon itself touch its own mount: a request that waits for the daemon
// while the daemon waits for it is a deadlock.
package fs
