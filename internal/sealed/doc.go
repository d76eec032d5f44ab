// Package sealed holds secrets that have to outlive the server: what clients wrote and have not published, the content
// of credential files that are open, what is remembered of each tree, the vault key.
//
// The memory is a memfd_secret(2): out of the kernel's own mapping, so neither /proc/PID/mem nor process_vm_readv nor
// a core dump shows it, root's included, and never swapped. A keeper holds the descriptor and does not map it. Whoever
// may take a descriptor out of another process (pidfd_getfd: CAP_SYS_PTRACE on the host) can map it: docs/threat-model.md.
//
// Where the kernel has no memfd_secret, the arena is private memory of the process and goes with it: drafts, open
// credential files and the vault key then do not survive a crash. There is no fallback to memory that others can read.
package sealed
