package keeper

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// State is what the mount does.
type State string

// The states of a mount.
const (
	Starting State = "starting" // requests wait for a server
	Serving  State = "serving"
	Failing  State = "failing" // requests are answered with EIO
)

// Status is what a keeper writes for commands to read, in keeper.json of the runtime directory.
type Status struct {
	SchemaVersion int       `json:"schemaVersion"`
	PID           int       `json:"pid"`
	State         State     `json:"state"`
	Since         time.Time `json:"since"`
	Server        int       `json:"server"` // process id
	Restarts      int       `json:"restarts"`
	LastEnd       string    `json:"lastEnd,omitempty"` // of a server
	LastEndAt     time.Time `json:"lastEndAt,omitzero"`
	Message       string    `json:"message,omitempty"` // what the last server said before it ended

	path string
}

// FileName is the status file's name in the runtime directory.
const FileName = "keeper.json"

// note keeps how a server ended.
func (k *Keeper) note(e ending) {
	k.status.LastEnd, k.status.LastEndAt = e.reason, time.Now().UTC()
	if e.self || e.neverServed {
		k.cfg.Log.Error("Server ended; another one is started", "reason", e.reason, "message", k.status.Message)
	} else {
		k.cfg.Log.Warn("Server ended; another one is started", "reason", e.reason)
	}
}

// write writes the status file. Nothing but "claudefs status" depends on it.
func (k *Keeper) write(s State) {
	k.status.SchemaVersion, k.status.State = 1, s
	if k.status.path == "" {
		return
	}
	b, err := json.Marshal(&k.status)
	if err == nil {
		err = renameio.WriteFile(k.status.path, append(b, '\n'), 0o600)
	}
	if err != nil {
		k.cfg.Log.Warn("Status file is not written", "err", err)
	}
}

// unwrite takes the status file away.
func (k *Keeper) unwrite() {
	if k.status.path != "" {
		_ = os.Remove(k.status.path)
	}
}

// ReadStatus reads the status file of a keeper in a runtime directory.
func ReadStatus(runtimeDir string) (*Status, error) {
	b, err := os.ReadFile(filepath.Join(runtimeDir, FileName))
	if err != nil {
		return nil, fmt.Errorf("read keeper's state: %w", err)
	}
	s := &Status{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, fmt.Errorf("read keeper's state: %w", err)
	}
	return s, nil
}
