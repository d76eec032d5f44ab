package vault

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// headerVersion is the format of vault.json; a higher one is refused with ErrNewer.
const headerVersion = 1

// SlotRecord is what the vault remembers of a key slot. It holds no key in clear.
type SlotRecord struct {
	Backend Backend   `json:"backend"`
	Created time.Time `json:"created"`
	// Sealed is the wrapped vault key, for the slots that keep it in the file (passphrase: an age file).
	Sealed []byte `json:"sealed,omitempty"`
}

// header is vault.json: the vault's identity and its slots.
type header struct {
	Version int          `json:"version"`
	ID      string       `json:"id"`
	Slots   []SlotRecord `json:"slots"`
	// Check is a sealed constant: it tells a wrong key from damaged records.
	Check []byte `json:"check"`
}

func newHeader() *header {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return &header{Version: headerVersion, ID: hex.EncodeToString(b)}
}

func headerPath(dir string) string { return filepath.Join(dir, "vault.json") }

func readHeader(dir string) (*header, error) {
	b, err := os.ReadFile(headerPath(dir))
	if errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("open vault %s: %w", dir, ErrNoVault)
	}
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	var probe struct {
		Version int `json:"version"`
	}
	// The version is read by itself: a newer format may have other types, and is not damage.
	if err := json.Unmarshal(b, &probe); err == nil && probe.Version > headerVersion {
		return nil, fmt.Errorf("open vault: %s: %w", headerPath(dir), ErrNewer)
	}
	var h header
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, fmt.Errorf("open vault: %s: %w: %w", headerPath(dir), ErrCorrupt, err)
	}
	switch {
	case h.Version < 1 || len(h.ID) != 32 || len(h.Slots) == 0:
		return nil, fmt.Errorf("open vault: %s: %w: version, id or slots missing", headerPath(dir), ErrCorrupt)
	}
	return &h, nil
}

// write replaces vault.json durably.
func (h *header) write(dir string) error {
	b, err := json.MarshalIndent(h, "", "  ")
	if err != nil {
		return fmt.Errorf("write vault header: %w", err)
	}
	if err := replaceFile(headerPath(dir), append(b, '\n')); err != nil {
		return fmt.Errorf("write vault header: %w", err)
	}
	return nil
}

// replaceFile replaces a file durably. The temporary file is made beside it, not in $TMPDIR, where renameio would put
// it: what a killed writer leaves behind stays in the vault's own directory.
func replaceFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	// renameio syncs the file before the rename; the directory entry needs a sync of its own.
	if err := renameio.WriteFile(path, b, 0o600, renameio.WithTempDir(dir)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
