package vault

import (
	"context"
	"fmt"
)

// Backend names what protects the vault key.
type Backend string

// The backends of key slots, and the choice between them.
const (
	BackendAuto       Backend = "auto"
	BackendKeyring    Backend = "keyring"
	BackendKernel     Backend = "kernel"
	BackendPassphrase Backend = "passphrase"
)

// ParseBackend checks a backend's name.
func ParseBackend(s string) (Backend, error) {
	switch b := Backend(s); b {
	case BackendAuto, BackendKeyring, BackendKernel, BackendPassphrase:
		return b, nil
	}
	return "", fmt.Errorf("vault backend %q: want auto, keyring, kernel or passphrase", s)
}

// slot wraps the vault key.
type slot interface {
	// wrap stores key and returns what vault.json has to remember.
	wrap(ctx context.Context, vaultID string, key Secret) (SlotRecord, error)
	// unwrap returns the key, or ErrLocked, ErrUnavailable, ErrTimeout, ErrPassphrase.
	unwrap(ctx context.Context, vaultID string, rec SlotRecord) (Secret, error)
}

func (c *Config) slot(b Backend) (slot, error) {
	switch b {
	case BackendKeyring:
		return keyringSlot{helper: c.Helper}, nil
	case BackendKernel:
		return kernelSlot{}, nil
	case BackendPassphrase:
		if c.Passphrase == nil {
			return nil, fmt.Errorf("open passphrase slot: %w: no passphrase given", ErrLocked)
		}
		return passphraseSlot{ask: c.Passphrase, workFactor: c.ScryptWorkFactor}, nil
	default:
		return nil, fmt.Errorf("open vault: %w: slot type %q", ErrNewer, b)
	}
}

// choose settles auto, for a new vault: the OS keyring when a Secret Service answers, else the kernel keyring, with
// a line for the user. Nothing else changes a vault's backend later.
func (c *Config) choose(ctx context.Context, b Backend) (Backend, string) {
	if b != BackendAuto && b != "" {
		return b, ""
	}
	err := (keyringSlot{helper: c.Helper}).probe(ctx)
	if err == nil {
		return BackendKeyring, "vault key is kept in the OS keyring"
	}
	return BackendKernel, "vault key is kept in the kernel keyring until reboot (no OS keyring: " + short(err) +
		"); to keep logins across reboots create the vault with --vault passphrase"
}

func short(err error) string {
	s := err.Error()
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return s
}
