package vault

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// keyringService is the "service" attribute of our item in the OS keyring.
const keyringService = "claudefs"

// Deadlines for the helper. A probe must not delay a start; a real unlock may show the user a prompt.
const (
	keyringProbeTimeout = 2 * time.Second
	keyringTimeout      = 10 * time.Second
)

// keyringSlot keeps the vault key in the OS keyring (Secret Service) through go-keyring. go-keyring has no deadline
// and can block for ever, start a stray bus or leak, so it runs in a helper process which is killed when it is late.
type keyringSlot struct{ helper []string }

func (s keyringSlot) wrap(ctx context.Context, vaultID string, key Secret) (SlotRecord, error) {
	enc := base64.StdEncoding.EncodeToString(key.Reveal())
	if _, err := s.call(ctx, keyringTimeout, helperRequest{Op: "set", User: vaultID, Value: enc}); err != nil {
		return SlotRecord{}, fmt.Errorf("store vault key in the OS keyring: %w", err)
	}
	back, err := s.unwrap(ctx, vaultID, SlotRecord{})
	if err != nil {
		return SlotRecord{}, err
	}
	if !back.Equal(key) {
		return SlotRecord{}, fmt.Errorf("store vault key in the OS keyring: %w: it reads back differently", ErrCorrupt)
	}
	return SlotRecord{Backend: BackendKeyring, Created: time.Now().UTC().Truncate(time.Second)}, nil
}

func (s keyringSlot) unwrap(ctx context.Context, vaultID string, _ SlotRecord) (Secret, error) {
	out, err := s.call(ctx, keyringTimeout, helperRequest{Op: "get", User: vaultID})
	if err != nil {
		return Secret{}, fmt.Errorf("read vault key from the OS keyring: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(out)
	if err != nil || len(key) != keySize {
		return Secret{}, fmt.Errorf("read vault key from the OS keyring: %w: not a vault key", ErrCorrupt)
	}
	return NewSecret(key), nil
}

// probe writes, reads and deletes a canary: a keyring that only answers is not yet one that can store.
func (s keyringSlot) probe(ctx context.Context) error {
	_, err := s.call(ctx, keyringProbeTimeout, helperRequest{Op: "probe", User: "probe"})
	return err
}

// busAddress reports whether a session bus is known. Without one go-keyring would launch a bus of its own.
func busAddress() bool {
	if a := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); a != "" && a != "autolaunch:" {
		return true
	}
	st, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid()))
	return err == nil && st.Mode()&os.ModeSocket != 0
}

func (s keyringSlot) call(ctx context.Context, limit time.Duration, req helperRequest) (string, error) {
	if !busAddress() {
		return "", fmt.Errorf("%w: no session bus (DBUS_SESSION_BUS_ADDRESS is not set)", ErrUnavailable)
	}
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	in, err := json.Marshal(req)
	if err != nil {
		return "", fmt.Errorf("call keyring helper: %w", err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, s.helper[0], s.helper[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.WaitDelay = bytes.NewReader(in), &out, time.Second
	// A helper that hangs must not outlive us: a SIGKILL leaves nobody to keep its deadline.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	start := time.Now()
	runErr := cmd.Run()
	switch {
	case errors.Is(asked.Err(), context.Canceled):
		return "", fmt.Errorf("call keyring helper: %w", asked.Err())
	case ctx.Err() != nil:
		return "", fmt.Errorf("%w: the keyring gave no answer within %v; an unlock prompt may be waiting",
			ErrTimeout, time.Since(start).Round(100*time.Millisecond))
	case runErr != nil:
		return "", fmt.Errorf("call keyring helper: %w: %w", ErrUnavailable, runErr)
	}
	var rep helperReply
	if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
		// The decoder's text can quote the reply, which may hold the key.
		return "", fmt.Errorf("call keyring helper: %w: no reply", ErrUnavailable)
	}
	return rep.Value, rep.err()
}
