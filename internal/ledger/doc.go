// Package ledger is what has to be known of a FUSE connection by whoever serves it: the INIT exchange, the nodes and
// handles that the kernel holds, and which changing requests were carried out. It lies in a memfd that a keeper holds
// too, so a server that is killed leaves it as it was at that instruction, and the next server goes on with it.
//
// Nothing in it is secret: it has names of files, never contents. It is written with plain stores and read by one
// process at a time; the order of stores is such that a writer that is killed between any two of them leaves a ledger
// that Open accepts.
//
// # Node ids
//
// The kernel is given ids of ours, counted up and never used again, so an id means one file for good. A node is known
// again by its Key: the backing file's inode number with its time of birth, or a virtual file's own number.
//
// # Format
//
//	header    16 KiB   magic, version, counters, INIT request and reply, mountpoint
//	journal   128 KiB  changing requests by their unique id: begun, or done with an errno
//	handles   2.5 MiB  open files and directories, by index
//	records   two halves, one in use: nodes and names, appended; compacted into the other half
//
// A version that this program does not know is ErrVersion, in both directions: nothing is converted.
package ledger
