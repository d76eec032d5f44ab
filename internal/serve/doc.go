// Package serve answers a FUSE connection that outlives the process which serves it. It stands between go-fuse's
// unmodified Server and the file system:
//
//   - attach.go gives the Server a connection whose INIT may be long past, by playing the saved exchange to it.
//   - nodes.go and handles.go give the kernel numbers that are good in every process, and find the node or reopen the
//     file behind one that an earlier process gave, when it is first used (revival.go).
//   - once.go carries a changing request out once, however often the kernel sends it.
//   - op_*.go are the operations: each translates the numbers, and passes the request on.
//   - pace.go knows which requests are under way: for the watchdog, and for a pause before a hand-over.
//
// Two servers never serve at once: the daemon holds a lock on its state directory.
//
// # Why a repeated request is carried out once
//
// The kernel sends every request again that was read and not answered (FUSE_NOTIFY_RESEND, Linux 6.9). While a request
// to make, remove or rename a name is out, the kernel holds the directory's lock, so through this mount nobody else
// can change that name: if a begun "make" finds the name there, or a begun "remove" finds it gone, it was this request.
// Exchanging two names is told from its repetition by the inode that the journal kept. Writes, truncations and times
// carry absolute values, and the kernel holds the file's lock while they are out.
//
// A crash between a lookup's note and its answer leaves the kernel's count one too high here; the node is then
// remembered until the unmount, and nothing else comes of it.
package serve
