// Package logkey holds the attribute names of log records, so that one fact has one name everywhere.
package logkey

// Attribute names.
const (
	Account    = "account"
	Container  = "container"
	Err        = "err"
	ExpiresAt  = "expires_at"
	Generation = "generation"
	Mountpoint = "mountpoint"
	Path       = "path"
	Policy     = "policy"
	Reason     = "reason"
	Tree       = "tree"
)
