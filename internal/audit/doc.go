// Package audit writes the record of what was disclosed to whom, and why something was refused.
//
// The log is a file of JSON lines. Each record carries a sequence number and the SHA-256 of the line before it, so
// that a changed, dropped or inserted line shows ("claudefs audit verify"). A record is written before the bytes that
// it speaks of leave the daemon; when it cannot be written they do not leave. Rotations, logins and logouts are also
// synced to the disk; disclosures and denials reach it with the file system's own rhythm, so a power cut may lose the
// last seconds of them.
//
// Records carry no token, only fingerprints.
package audit
