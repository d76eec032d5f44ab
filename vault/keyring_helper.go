package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/zalando/go-keyring"
	"golang.org/x/sys/unix"
)

// helperRequest and helperReply travel over the helper's standard input and output, never in its arguments.
type helperRequest struct {
	Op    string `json:"op"` // get, set or probe
	User  string `json:"user"`
	Value string `json:"value,omitempty"`
}

type helperReply struct {
	Value string `json:"value,omitempty"`
	Class string `json:"class,omitempty"` // "", notfound, locked, unavailable
	Error string `json:"error,omitempty"`
}

func (r helperReply) err() error {
	switch r.Class {
	case "":
		return nil
	case "notfound":
		return fmt.Errorf("%w: the keyring has no such item", ErrLocked)
	case "locked":
		return fmt.Errorf("%w: %s", ErrLocked, r.Error)
	default:
		return fmt.Errorf("%w: %s", ErrUnavailable, r.Error)
	}
}

// RunKeyringHelper is the body of the helper process: one request on in, one reply on out.
func RunKeyringHelper(in io.Reader, out io.Writer) error {
	// execve made the process dumpable again; nobody of the same uid may read the key from our memory.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("harden keyring helper: %w", err)
	}
	unix.Umask(0o077) // the daemon's is 0, for its callers' sake; go-keyring may make files
	var req helperRequest
	if err := json.NewDecoder(io.LimitReader(in, 1<<16)).Decode(&req); err != nil {
		return fmt.Errorf("read keyring request: %w", err)
	}
	value, err := serveKeyring(req)
	rep := helperReply{Value: value}
	if err != nil {
		rep.Class, rep.Error = classifyKeyring(err), err.Error()
	}
	return json.NewEncoder(out).Encode(rep)
}

func serveKeyring(req helperRequest) (string, error) {
	switch req.Op {
	case "get":
		return keyring.Get(keyringService, req.User)
	case "set":
		return "", keyring.Set(keyringService, req.User, req.Value)
	case "probe":
		if err := keyring.Set(keyringService, req.User, "canary"); err != nil {
			return "", err
		}
		if got, err := keyring.Get(keyringService, req.User); err != nil || got != "canary" {
			return "", errors.Join(errors.New("canary not read back"), err)
		}
		return "", keyring.Delete(keyringService, req.User)
	}
	return "", fmt.Errorf("unknown request %q", req.Op)
}

// classifyKeyring sorts go-keyring's errors. Most of them are plain text; the texts are those of its v0.2.8.
func classifyKeyring(err error) string {
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		return "notfound"
	case strings.Contains(err.Error(), "failed to unlock"):
		return "locked"
	default:
		return "unavailable"
	}
}
