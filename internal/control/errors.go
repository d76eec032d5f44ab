package control

import (
	"errors"

	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// ErrNotProven: the other program could not serve in the running one's place, and that one goes on.
var ErrNotProven = errors.New("the new server did not prove itself; the running one goes on")

// ErrNoHandOver: nothing holds the mount while one server follows the other.
var ErrNoHandOver = errors.New("a server without a keeper cannot be followed by another")

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
	"not_proven":     ErrNotProven,
	"no_hand_over":   ErrNoHandOver,
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
