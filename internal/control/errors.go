package control

import (
	"errors"

	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// kinds are the errors that a command branches on; they keep their identity across the socket.
var kinds = map[string]error{
	"login_required": refresh.ErrLoginRequired,
	"static":         refresh.ErrStatic,
	"not_found":      vault.ErrNotFound,
	"locked":         vault.ErrLocked,
	"passphrase":     vault.ErrPassphrase,
	"denied":         policy.ErrDenied,
	"syntax":         credfile.ErrSyntax,
	"not_yet":        refresh.ErrNotYet,
}

func kindOf(err error) string {
	for k, e := range kinds {
		if errors.Is(err, e) {
			return k
		}
	}
	return ""
}

// remoteError is an error of the daemon, with the identity that it had there.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error { return e.kind }
