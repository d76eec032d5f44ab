package vault

import (
	"errors"
	iofs "io/fs"

	"github.com/claudefs/claudefs/internal/sentinel"
)

// Errors that callers branch on.
var (
	// ErrNotFound: no record of that name. It wraps fs.ErrNotExist.
	ErrNotFound = sentinel.New("not in the vault", iofs.ErrNotExist)
	// ErrLocked: the vault key is not available now; the records are intact.
	ErrLocked = errors.New("vault is locked")
	// ErrConflict: the record changed since it was read.
	ErrConflict = errors.New("record changed meanwhile")
	// ErrCorrupt: the record does not decrypt, or is not what its name says. Nothing is overwritten.
	ErrCorrupt = errors.New("record is damaged or belongs elsewhere")
	// ErrNewer: the format is that of a newer claudefs. Nothing is overwritten.
	ErrNewer = errors.New("format of a newer claudefs")
	// ErrNoVault: no vault has been created in the directory.
	ErrNoVault = errors.New("no vault here yet")
	// ErrExists: a vault is already there.
	ErrExists = errors.New("vault exists already")
	// ErrUnavailable: the slot's service does not answer (no bus, no service, no key ring).
	ErrUnavailable = errors.New("key slot is not available")
	// ErrTimeout: the slot's service did not answer in time; a prompt may be waiting.
	ErrTimeout = errors.New("key slot did not answer in time")
	// ErrPassphrase: the passphrase does not open the slot.
	ErrPassphrase = errors.New("wrong passphrase")
)
