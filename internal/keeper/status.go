package keeper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/claudefs/claudefs/internal/volatile"
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
	Start         uint64    `json:"start"` // of the process, in clock ticks since boot: with the PID it is unmistakable
	State         State     `json:"state"`
	Since         time.Time `json:"since"`
	Server        int       `json:"server"` // process id
	Restarts      int       `json:"restarts"`
	LastEnd       string    `json:"lastEnd,omitempty"` // of a server
	LastEndAt     time.Time `json:"lastEndAt,omitzero"`
	Message       string    `json:"message,omitempty"` // what the last server said before it ended

	path string
}

// Alive reports whether the keeper that wrote this still runs.
func (s *Status) Alive() bool { return s.Start != 0 && startTime(s.PID) == s.Start }

// startTime is field 22 of /proc/PID/stat, 0 for no such process.
func startTime(pid int) uint64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// The name in parentheses may hold anything; nothing behind it has another one.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	start, _ := strconv.ParseUint(fields[19], 10, 64)
	return start
}

// FileName is the status file's name in the runtime directory.
const FileName = "keeper.json"

// note keeps how a server ended.
func (k *Keeper) note(e ending) {
	k.status.LastEnd, k.status.LastEndAt = e.reason, time.Now().UTC()
	if e.self || e.neverServed {
		k.cfg.Log.Error("Server ended; another one is started", "reason", e.reason, "message", k.status.Message)
	} else {
		k.cfg.Log.Warn("Server ended; another one is started", "reason", e.reason, "held", len(k.held))
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
		err = volatile.WriteFile(k.status.path, append(b, '\n'), 0o600)
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
