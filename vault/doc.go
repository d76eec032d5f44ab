// Package vault stores logins encrypted on disk.
//
// A random 32-byte vault key encrypts every record with AES-256-GCM. The key itself is never on disk in clear: a
// key slot wraps it, in the OS keyring, in the kernel keyring or under a passphrase. The slot is chosen once, when
// the vault is created, and never changes silently; a vault whose slot does not answer is locked, not lost, and is
// never initialised again.
//
// Records are padded to a multiple of 4 KiB, carry the vault id and their own name as authenticated data (a renamed
// or copied file is refused) and are replaced by compare-and-set: under a file lock, written to a temporary file,
// synced, renamed, the directory synced, and read back before Put returns.
//
// The package knows no network and no callers.
package vault
