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
	Policy        string              `json:"policy"` // as it was given: an embedded policy's name or a file
	InForce       PolicyStatus        `json:"policyInForce"`
	Vault         VaultStatus         `json:"vault"`
	Accounts      []accounts.Info     `json:"accounts"`
	Trees         []broker.TreeStatus `json:"trees"`
	Runtimes      []RuntimeStatus     `json:"runtimes"`
	Keeper        KeeperStatus        `json:"keeper"`
}

// KeeperStatus says what holds the mount when the server ends.
type KeeperStatus struct {
	Holder  string `json:"holder"` // keeper, systemd or none
	PID     int    `json:"pid,omitempty"`
	Servers uint64 `json:"servers"` // how many have served this mount so far
	Nodes   int    `json:"nodes"`   // files that the kernel knows
	Sealed  bool   `json:"sealed"`  // there is memory_secret: open credentials and the vault key survive
	// Restarts counts the servers that ended unasked; LastEnd is how the last of them did.
	Restarts  int       `json:"restarts"`
	LastEnd   string    `json:"lastEnd,omitempty"`
	LastEndAt time.Time `json:"lastEndAt,omitzero"`
	// HandOverError is why the last upgrade or reload was refused, "" if it was not.
	HandOverAt    time.Time `json:"handOverAt,omitzero"`
	HandOverError string    `json:"handOverError,omitempty"`
}

// Question is whom an explanation is asked about: a container by name or id, or a process.
type Question struct {
	Tree      string `json:"tree"`
	Container string `json:"container,omitempty"`
	PID       uint32 `json:"pid,omitempty"`
}

// PolicyStatus says which policy is in force.
type PolicyStatus struct {
	Rules  int       `json:"rules"`
	ReadAt time.Time `json:"readAt"`
	// Error is why the file as it is now is not in force, "" if it is.
	Error string `json:"error,omitempty"`
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
	// Approve lets readers of a tree read that wait: all, or the one whose name or id is given.
	Approve(tree, reader string) ([]broker.Waiting, error)
	// Explain says what would come of a read.
	Explain(context.Context, Question) (*broker.Explanation, error)
	// ReloadPolicy reads the policy again. After an error the one before it goes on.
	ReloadPolicy() (PolicyStatus, error)
	// HandOver has a program take over from this one; it returns when that program has proved itself.
	HandOver(ctx context.Context, binary string) error
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
