// Package control is how commands reach a running daemon: HTTP with JSON bodies over a unix socket that only the
// daemon's own user and root can use, by file mode and by the peer's credentials.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/broker"
)

// ErrNoDaemon: nobody listens on the socket.
var ErrNoDaemon = errors.New("no daemon is running")

// Status is what the daemon says of itself. It is the output of "claudefs status --json".
type Status struct {
	SchemaVersion int                 `json:"schemaVersion"`
	Version       string              `json:"version"`
	PID           int                 `json:"pid"`
	Since         time.Time           `json:"since"`
	Mountpoint    string              `json:"mountpoint"`
	Policy        string              `json:"policy"`
	Vault         VaultStatus         `json:"vault"`
	Accounts      []accounts.Info     `json:"accounts"`
	Trees         []broker.TreeStatus `json:"trees"`
	Runtimes      []RuntimeStatus     `json:"runtimes"`
}

// VaultStatus describes the vault.
type VaultStatus struct {
	Directory string   `json:"directory"`
	Backends  []string `json:"backends"`
	Locked    bool     `json:"locked"`
}

// RuntimeStatus describes one container runtime.
type RuntimeStatus struct {
	Socket string `json:"socket"`
	API    string `json:"api,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Daemon is what the server lets commands do.
type Daemon interface {
	Status(context.Context) (*Status, error)
	Accounts() *accounts.Accounts
	Vault() Vault
	ResetTree(name string) error
	Stop()
}

// Vault is what commands may do to the daemon's vault.
type Vault interface {
	Lock()
	// Unlock opens it with what the daemon was started with, or with the passphrase, when there is one.
	Unlock(ctx context.Context, passphrase []byte) error
}

// reply is the body of every answer: a result, or an error with its kind.
type reply struct {
	Error string `json:"error,omitempty"`
	Kind  string `json:"kind,omitempty"`
}
