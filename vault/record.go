package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"
)

// Directories of records, below the vault's own.
const (
	accountsDir = "accounts"
	treesDir    = "trees"
	recordExt   = ".sealed"
)

// Version identifies the content of a record for compare-and-set; the zero Version means "no record yet".
type Version [sha256.Size]byte

// Bounds on records.
const (
	// maxRecord is the largest record file that is read, in bytes: larger is damage, not a login.
	maxRecord = 16 << 20
	// settled is how old a file must be for its content to be kept in memory. The clock of file times ticks in
	// milliseconds, and a file replaced twice within one tick can come back with the same inode, size and time.
	settled = 100 * time.Millisecond
)

// cached is a decrypted record with the identity of the file it came from.
type cached struct {
	ino     uint64
	mtime   unix.Timespec
	size    int64
	body    Secret
	version Version
}

func (v *Vault) path(kind, name string) string {
	return filepath.Join(v.cfg.Dir, kind, name+recordExt)
}

// aad binds a record to its vault and its name, so that a renamed file is refused.
func (v *Vault) aad(kind, name string) string { return v.head.ID + "|" + kind + "|" + name }

// load returns a record's plaintext. While the file is unchanged it is decrypted once.
func (v *Vault) load(kind, name string) (Secret, Version, error) {
	key, err := v.currentKey()
	if err != nil {
		return Secret{}, Version{}, err
	}
	defer key.Wipe()
	path := v.path(kind, name)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err == nil {
		v.mu.RLock()
		c, ok := v.cache[path]
		v.mu.RUnlock()
		if ok && c.ino == st.Ino && c.mtime == st.Mtim && c.size == st.Size {
			return c.body, c.version, nil
		}
	}
	return v.loadFile(key, kind, name)
}

func (v *Vault) loadFile(key Secret, kind, name string) (Secret, Version, error) {
	path := v.path(kind, name)
	f, err := os.Open(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return Secret{}, Version{}, fmt.Errorf("load %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return Secret{}, Version{}, fmt.Errorf("load %s: %w", name, err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Secret{}, Version{}, fmt.Errorf("load %s: %w", name, err)
	}
	if st.Size > maxRecord {
		return Secret{}, Version{}, fmt.Errorf("load %s: %w: %d bytes", path, ErrCorrupt, st.Size)
	}
	file := make([]byte, st.Size)
	if _, err := f.ReadAt(file, 0); err != nil {
		return Secret{}, Version{}, fmt.Errorf("load %s: %w", name, err)
	}
	body, err := open(key, v.aad(kind, name), file)
	if err != nil {
		return Secret{}, Version{}, fmt.Errorf("load %s: %w", path, err)
	}
	c := cached{ino: st.Ino, mtime: st.Mtim, size: st.Size, body: NewSecret(body), version: sha256.Sum256(file)}
	v.mu.Lock()
	defer v.mu.Unlock()
	// Lock may have come since the key was fetched: then nothing decrypted is kept.
	if !v.key.IsZero() && time.Since(time.Unix(st.Mtim.Unix())) > settled {
		v.cache[path] = c
	}
	return c.body, c.version, nil
}

// store replaces a record if it is still at version want, durably, and reads it back before it returns.
func (v *Vault) store(kind, name string, body []byte, want Version) (Version, error) {
	key, err := v.currentKey()
	if err != nil {
		return Version{}, err
	}
	defer key.Wipe()
	unlock, err := v.lockFile(context.Background(), v.path(kind, name)+".cas")
	if err != nil {
		return Version{}, err
	}
	defer unlock()
	if err := v.compare(kind, name, want); err != nil {
		return Version{}, err
	}
	file, err := seal(key, v.aad(kind, name), body)
	if err != nil {
		return Version{}, fmt.Errorf("store %s: %w", name, err)
	}
	v.sweep(kind, name)
	if err := replaceFile(v.path(kind, name), file); err != nil {
		return Version{}, fmt.Errorf("store %s: %w", name, err)
	}
	back, version, err := v.loadFile(key, kind, name)
	if err != nil {
		return Version{}, fmt.Errorf("read back %s: %w", name, err)
	}
	if string(back.Reveal()) != string(body) {
		return Version{}, fmt.Errorf("read back %s: %w", name, ErrCorrupt)
	}
	return version, nil
}

func (v *Vault) compare(kind, name string, want Version) error {
	file, err := os.ReadFile(v.path(kind, name))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("store %s: %w", name, err)
	}
	var now Version
	if err == nil {
		now = sha256.Sum256(file)
	}
	if now != want {
		return fmt.Errorf("store %s: %w", name, ErrConflict)
	}
	return nil
}

// sweep removes the temporary files that killed writers of the record left; the caller holds the record's lock.
func (v *Vault) sweep(kind, name string) {
	dir := filepath.Join(v.cfg.Dir, kind)
	entries, _ := os.ReadDir(dir) // best effort: what stays is ciphertext
	for _, e := range entries {
		random, ok := strings.CutPrefix(e.Name(), "."+name+recordExt)
		if ok && random != "" && strings.Trim(random, "0123456789") == "" {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func (v *Vault) remove(kind, name string) error {
	path := v.path(kind, name)
	unlock, err := v.lockFile(context.Background(), path+".cas") // a store under way would bring the record back
	if err != nil {
		return err
	}
	defer unlock()
	v.mu.Lock()
	delete(v.cache, path)
	v.mu.Unlock()
	err = os.Remove(path)
	if errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return syncDir(filepath.Dir(path))
}

func (v *Vault) list(kind string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(v.cfg.Dir, kind))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), recordExt); ok && namePattern.MatchString(name) {
			out = append(out, name)
		}
	}
	return out, nil
}

// lockFile takes an flock, waiting until ctx ends. The file is never renamed or removed.
func (v *Vault) lockFile(ctx context.Context, path string) (unlock func(), err error) {
	l := flock.New(path, flock.SetPermissions(0o600))
	ok, err := l.TryLockContext(ctx, 2*time.Millisecond)
	if err != nil || !ok {
		return nil, fmt.Errorf("lock %s: %w", filepath.Base(path), err)
	}
	return func() { _ = l.Close() }, nil
}
