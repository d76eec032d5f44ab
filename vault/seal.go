package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// keySize is the length of a vault key in bytes (AES-256).
const keySize = 32

// recordClass is the step in which plaintexts are padded, in bytes, so that a file's length tells little.
const recordClass = 4096

// sealMagic begins every record file; its last byte is the format version.
const (
	sealMagic   = "CFSR"
	sealVersion = 1
)

// newKey makes a random vault key.
func newKey() Secret {
	k := make([]byte, keySize)
	_, _ = rand.Read(k) // never fails: crypto/rand aborts the program instead
	return NewSecret(k)
}

// seal encrypts body under key; aad names the vault and the record.
func seal(key Secret, aad string, body []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	n := (len(body) + 4 + recordClass - 1) / recordClass * recordClass
	plain := make([]byte, n)
	binary.BigEndian.PutUint32(plain, uint32(len(body)))
	copy(plain[4:], body)
	defer clear(plain)
	head := append([]byte(sealMagic), sealVersion)
	return gcm.Seal(head, nil, plain, []byte(aad)), nil
}

// open decrypts what seal made.
func open(key Secret, aad string, file []byte) ([]byte, error) {
	h := len(sealMagic) + 1
	if len(file) < h || string(file[:len(sealMagic)]) != sealMagic {
		return nil, fmt.Errorf("%w: not a record", ErrCorrupt)
	}
	switch v := file[h-1]; {
	case v > sealVersion:
		return nil, fmt.Errorf("%w: record version %d, this is version %d", ErrNewer, v, sealVersion)
	case v < sealVersion:
		return nil, fmt.Errorf("%w: record version %d", ErrCorrupt, v)
	}
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	plain, err := gcm.Open(nil, nil, file[h:], []byte(aad))
	if err != nil {
		return nil, fmt.Errorf("%w: authentication failed", ErrCorrupt)
	}
	if len(plain) < 4 || int(binary.BigEndian.Uint32(plain)) > len(plain)-4 {
		return nil, fmt.Errorf("%w: bad length", ErrCorrupt)
	}
	return plain[4 : 4+binary.BigEndian.Uint32(plain)], nil
}

func newGCM(key Secret) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key.Reveal())
	if err != nil {
		return nil, fmt.Errorf("use vault key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
