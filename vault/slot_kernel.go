package vault

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// kernelSlot keeps the vault key in the user keyring (user-keyring(7)) as a "user" key. It needs no service and no
// prompt and lasts until reboot. Any process of the same uid in the same user namespace can read it.
type kernelSlot struct{}

// description is opaque: it shows in /proc/keys.
func (kernelSlot) description(vaultID string) string { return "claudefs:" + vaultID }

func (s kernelSlot) wrap(_ context.Context, vaultID string, key Secret) (SlotRecord, error) {
	err := onUserKeyring(func() error {
		_, err := unix.AddKey("user", s.description(vaultID), key.Reveal(), unix.KEY_SPEC_USER_KEYRING)
		return err
	})
	if err != nil {
		return SlotRecord{}, fmt.Errorf("store vault key in the kernel keyring: %w: %w", ErrUnavailable, err)
	}
	return SlotRecord{Backend: BackendKernel, Created: time.Now().UTC().Truncate(time.Second)}, nil
}

func (s kernelSlot) unwrap(_ context.Context, vaultID string, _ SlotRecord) (Secret, error) {
	buf := make([]byte, keySize)
	var n int
	err := onUserKeyring(func() error {
		id, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", s.description(vaultID), 0)
		if err != nil {
			return err
		}
		n, err = unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOKEY), errors.Is(err, unix.EKEYEXPIRED), errors.Is(err, unix.EKEYREVOKED):
		return Secret{}, fmt.Errorf("read vault key from the kernel keyring: %w: the key is gone since the last reboot", ErrLocked)
	case err != nil:
		return Secret{}, fmt.Errorf("read vault key from the kernel keyring: %w: %w", ErrUnavailable, err)
	case n != keySize:
		return Secret{}, fmt.Errorf("read vault key from the kernel keyring: %w: %d bytes", ErrCorrupt, n)
	}
	return NewSecret(buf), nil
}

// onUserKeyring runs do on one thread whose process keyring links the user keyring: in a fresh session the key is
// found but not readable without that link, since only a possessor may read it.
func onUserKeyring(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_PROCESS_KEYRING, true); err != nil {
		return err
	}
	if _, err := unix.KeyctlInt(unix.KEYCTL_LINK, unix.KEY_SPEC_USER_KEYRING, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0); err != nil {
		return err
	}
	return do()
}
