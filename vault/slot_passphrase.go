package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"filippo.io/age"
)

// defaultScryptWorkFactor is log2 of scrypt's cost: about half a second and 128 MiB.
const defaultScryptWorkFactor = 17

// maxScryptWorkFactor is the highest cost that age opens.
const maxScryptWorkFactor = 22

// passphraseSlot wraps the vault key under a passphrase, as an age file (scrypt) inside vault.json.
type passphraseSlot struct {
	ask        func(ctx context.Context) (Secret, error)
	workFactor int // log2; 0 is the default
}

func (s passphraseSlot) wrap(ctx context.Context, vaultID string, key Secret) (SlotRecord, error) {
	pass, err := s.ask(ctx)
	if err != nil {
		return SlotRecord{}, fmt.Errorf("ask passphrase: %w", err)
	}
	if pass.IsZero() {
		// Fail closed: an empty passphrase protects nothing.
		return SlotRecord{}, fmt.Errorf("ask passphrase: %w: it is empty", ErrPassphrase)
	}
	r, err := age.NewScryptRecipient(string(pass.Reveal()))
	if err != nil {
		return SlotRecord{}, fmt.Errorf("wrap vault key: %w", err)
	}
	wf := s.workFactor
	if wf == 0 {
		wf = defaultScryptWorkFactor
	}
	if wf < 1 || wf > maxScryptWorkFactor {
		// age would panic, or make a slot that it then refuses to open.
		return SlotRecord{}, fmt.Errorf("wrap vault key: scrypt work factor %d: want 1 to %d", wf, maxScryptWorkFactor)
	}
	r.SetWorkFactor(wf)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return SlotRecord{}, fmt.Errorf("wrap vault key: %w", err)
	}
	if _, err := w.Write(append([]byte(vaultID), key.Reveal()...)); err != nil {
		return SlotRecord{}, fmt.Errorf("wrap vault key: %w", err)
	}
	if err := w.Close(); err != nil {
		return SlotRecord{}, fmt.Errorf("wrap vault key: %w", err)
	}
	return SlotRecord{Backend: BackendPassphrase, Created: time.Now().UTC().Truncate(time.Second), Sealed: out.Bytes()}, nil
}

func (s passphraseSlot) unwrap(ctx context.Context, vaultID string, rec SlotRecord) (Secret, error) {
	pass, err := s.ask(ctx)
	if err != nil {
		return Secret{}, fmt.Errorf("ask passphrase: %w: %w", ErrLocked, err)
	}
	if pass.IsZero() {
		return Secret{}, fmt.Errorf("open passphrase slot: %w: the passphrase is empty", ErrPassphrase)
	}
	id, err := age.NewScryptIdentity(string(pass.Reveal()))
	if err != nil {
		return Secret{}, fmt.Errorf("open passphrase slot: %w", err)
	}
	r, err := age.Decrypt(bytes.NewReader(rec.Sealed), id)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) {
		return Secret{}, fmt.Errorf("open passphrase slot: %w", ErrPassphrase)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("open passphrase slot: %w: %w", ErrCorrupt, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, 1024))
	if err != nil || len(b) != len(vaultID)+keySize || string(b[:len(vaultID)]) != vaultID {
		return Secret{}, fmt.Errorf("open passphrase slot: %w: it belongs to another vault", ErrCorrupt)
	}
	return NewSecret(b[len(vaultID):]), nil
}
