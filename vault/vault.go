package vault

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
)

// Config says where a vault is and how its slots are opened.
type Config struct {
	// Dir holds vault.json and the records; made with mode 0700.
	Dir string
	// Passphrase is asked when a passphrase slot is made or opened; nil: such a slot stays locked.
	Passphrase func(ctx context.Context) (Secret, error)
	// Helper is the command that runs RunKeyringHelper; default: this executable with "vault-helper".
	Helper []string
	// ScryptWorkFactor is log2 of the passphrase slot's cost; 0: 17.
	ScryptWorkFactor int
	// Held keeps the vault key for a later process, so that a crash needs no unlocking; nil: nobody does.
	Held HeldKey
	// Log receives changes of state; nil: none.
	Log *slog.Logger
}

// HeldKey is a place for the vault key that outlives the process.
type HeldKey interface {
	// Put keeps a copy of the key.
	Put(key []byte) error
	// Get returns a copy, nil when there is none.
	Get() []byte
	// Drop wipes it.
	Drop()
}

func (c *Config) setDefaults() {
	if len(c.Helper) == 0 {
		c.Helper = []string{"/proc/self/exe", "vault-helper"}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Vault is an opened vault, locked or not. It is safe for concurrent use, by several processes too.
type Vault struct {
	cfg  Config
	head *header

	mu    sync.RWMutex
	key   Secret // empty while locked
	cache map[string]cached

	decoded map[AccountID]decoded
}

// Open opens the vault in cfg.Dir without unlocking it. ErrNoVault when there is none.
func Open(cfg Config) (*Vault, error) {
	cfg.setDefaults()
	h, err := readHeader(cfg.Dir)
	if err != nil {
		return nil, err
	}
	return &Vault{cfg: cfg, head: h, cache: map[string]cached{}, decoded: map[AccountID]decoded{}}, nil
}

// Create makes a new vault protected by backend and leaves it unlocked. The notice says in one line what protects
// it. Over an existing vault it is ErrExists, whatever state that is in: locked is not lost.
func Create(ctx context.Context, cfg Config, backend Backend) (v *Vault, notice string, err error) {
	cfg.setDefaults()
	for _, d := range []string{cfg.Dir, filepath.Join(cfg.Dir, accountsDir), filepath.Join(cfg.Dir, treesDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, "", fmt.Errorf("create vault: %w", err)
		}
	}
	lock := flock.New(filepath.Join(cfg.Dir, "vault.lock"))
	if err := lock.Lock(); err != nil {
		return nil, "", fmt.Errorf("create vault: %w", err)
	}
	defer lock.Close()
	if _, err := os.Lstat(headerPath(cfg.Dir)); !errors.Is(err, os.ErrNotExist) {
		return nil, "", fmt.Errorf("create vault %s: %w", cfg.Dir, ErrExists)
	}
	chosen, notice := cfg.choose(ctx, backend)
	s, err := cfg.slot(chosen)
	if err != nil {
		return nil, "", err
	}
	h, key := newHeader(), newKey()
	rec, err := s.wrap(ctx, h.ID, key)
	if err != nil {
		return nil, "", fmt.Errorf("create vault: %w", err)
	}
	h.Slots = []SlotRecord{rec}
	if h.Check, err = seal(key, h.ID+"|check", []byte(h.ID)); err != nil {
		return nil, "", fmt.Errorf("create vault: %w", err)
	}
	if err := h.write(cfg.Dir); err != nil {
		return nil, "", err
	}
	v = &Vault{cfg: cfg, head: h, cache: map[string]cached{}, decoded: map[AccountID]decoded{}}
	v.use(key)
	return v, notice, nil
}

// Unlock fetches the vault key from the first slot that gives it. It does nothing when the vault is open.
func (v *Vault) Unlock(ctx context.Context) error {
	if !v.Locked() {
		return nil
	}
	if v.unlockHeld() {
		return nil
	}
	var errs []error
	for _, rec := range v.head.Slots {
		key, err := v.unwrap(ctx, rec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		v.use(key)
		v.cfg.Log.Info("Vault unlocked", "backend", string(rec.Backend))
		return nil
	}
	return errors.Join(errs...)
}

// unlockHeld uses the key that an earlier process left, if it is this vault's.
func (v *Vault) unlockHeld() bool {
	if v.cfg.Held == nil {
		return false
	}
	held := v.cfg.Held.Get()
	if len(held) == 0 {
		return false
	}
	key := NewSecret(held)
	if v.verify(key) != nil {
		key.Wipe()
		v.cfg.Held.Drop()
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key = key
	return true
}

// use opens the vault with key, and keeps a copy for a later process.
func (v *Vault) use(key Secret) {
	v.mu.Lock()
	v.key = key
	v.mu.Unlock()
	if v.cfg.Held == nil {
		return
	}
	if err := v.cfg.Held.Put(key.Reveal()); err != nil {
		v.cfg.Log.Warn("Vault would be locked after a crash", "err", err)
	}
}

// verify reports whether key is this vault's.
func (v *Vault) verify(key Secret) error {
	b, err := open(key, v.head.ID+"|check", v.head.Check)
	if err != nil || string(b) != v.head.ID {
		return fmt.Errorf("%w: its key is not this vault's", ErrCorrupt)
	}
	return nil
}

func (v *Vault) unwrap(ctx context.Context, rec SlotRecord) (Secret, error) {
	s, err := v.cfg.slot(rec.Backend)
	if err != nil {
		return Secret{}, err
	}
	key, err := s.unwrap(ctx, v.head.ID, rec)
	if err != nil {
		return Secret{}, err
	}
	if err := v.verify(key); err != nil {
		key.Wipe()
		return Secret{}, fmt.Errorf("open %s slot: %w", rec.Backend, err)
	}
	return key, nil
}

// Lock forgets the vault key and every decrypted record.
func (v *Vault) Lock() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key.Wipe()
	v.key = Secret{}
	if v.cfg.Held != nil {
		v.cfg.Held.Drop()
	}
	v.cache, v.decoded = map[string]cached{}, map[AccountID]decoded{}
}

// Locked reports whether the vault key is missing.
func (v *Vault) Locked() bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.key.IsZero()
}

// ID is the vault's random identity, in hex. It is not secret.
func (v *Vault) ID() string { return v.head.ID }

// Backends lists what protects the vault, in the order in which slots are tried.
func (v *Vault) Backends() []Backend {
	out := make([]Backend, 0, len(v.head.Slots))
	for _, s := range v.head.Slots {
		out = append(out, s.Backend)
	}
	return out
}

func (v *Vault) currentKey() (Secret, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if v.key.IsZero() {
		return Secret{}, ErrLocked
	}
	// A clone: Lock wipes the key, and a seal under half a key would be worse than an error.
	return v.key.Clone(), nil
}

// Derive returns a key for one purpose, made from the vault key: the same as long as the vault exists.
func (v *Vault) Derive(purpose string) (Secret, error) {
	key, err := v.currentKey()
	if err != nil {
		return Secret{}, err
	}
	defer key.Wipe()
	out, err := hkdf.Key(sha256.New, key.Reveal(), []byte(v.head.ID), "claudefs "+purpose, keySize)
	if err != nil {
		return Secret{}, fmt.Errorf("derive key for %s: %w", purpose, err)
	}
	return NewSecret(out), nil
}
