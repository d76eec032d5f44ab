package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/keeper"
)

// Client talks to the daemon at Socket.
type Client struct{ Socket string }

// Status asks for the daemon's status. ErrNoDaemon when nobody listens.
func (c Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	err := c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// Accounts lists the accounts.
func (c Client) Accounts(ctx context.Context) ([]accounts.Info, error) {
	var l []accounts.Info
	err := c.do(ctx, http.MethodGet, "/v1/accounts", nil, &l)
	return l, err
}

// Account describes one account.
func (c Client) Account(ctx context.Context, id string) (i accounts.Info, err error) {
	err = c.do(ctx, http.MethodGet, "/v1/accounts/"+url.PathEscape(id), nil, &i)
	return i, err
}

// Import hands a credential file over.
func (c Client) Import(ctx context.Context, id string, file []byte) (i accounts.Info, err error) {
	err = c.do(ctx, http.MethodPut, "/v1/accounts/"+url.PathEscape(id), file, &i)
	return i, err
}

// SetKey hands an API key over.
func (c Client) SetKey(ctx context.Context, id string, key []byte) (i accounts.Info, err error) {
	err = c.do(ctx, http.MethodPut, "/v1/accounts/"+url.PathEscape(id)+"/key", key, &i)
	return i, err
}

// Remove deletes an account.
func (c Client) Remove(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/v1/accounts/"+url.PathEscape(id), nil, nil)
}

// Refresh renews an account's token.
func (c Client) Refresh(ctx context.Context, id string, force bool) (i accounts.Info, err error) {
	err = c.do(ctx, http.MethodPost, fmt.Sprintf("/v1/accounts/%s/refresh?force=%t", url.PathEscape(id), force), nil, &i)
	return i, err
}

// ResetTree forgets what a tree's clients did to their credential file.
func (c Client) ResetTree(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, "/v1/trees/"+url.PathEscape(name)+"/reset", nil, nil)
}

// ReloadPolicy has the daemon read its policy again.
func (c Client) ReloadPolicy(ctx context.Context) (s PolicyStatus, err error) {
	err = c.do(ctx, http.MethodPost, "/v1/policy/reload", nil, &s)
	return s, err
}

// Explain says what would come of a read.
func (c Client) Explain(ctx context.Context, q Question) (*broker.Explanation, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("ask daemon: %w", err)
	}
	var x broker.Explanation
	return &x, c.do(ctx, http.MethodPost, "/v1/policy/explain", body, &x)
}

// Approve lets readers of a tree read that wait: all, or the one whose name or id is given.
func (c Client) Approve(ctx context.Context, tree, reader string) (approved []broker.Waiting, err error) {
	path := "/v1/trees/" + url.PathEscape(tree) + "/approve?reader=" + url.QueryEscape(reader)
	err = c.do(ctx, http.MethodPost, path, nil, &approved)
	return approved, err
}

// LockVault makes the daemon forget the vault key.
func (c Client) LockVault(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/vault/lock", nil, nil)
}

// UnlockVault opens the daemon's vault; passphrase may be empty.
func (c Client) UnlockVault(ctx context.Context, passphrase []byte) error {
	return c.do(ctx, http.MethodPost, "/v1/vault/unlock", passphrase, nil)
}

// HandOver has a program take the mount over. It returns when that one has proved itself and the old one is about to
// go. The path has to be absolute.
func (c Client) HandOver(ctx context.Context, binary string) error {
	return c.do(ctx, http.MethodPost, "/v1/handover", []byte(binary), nil)
}

// Stop ends the daemon.
func (c Client) Stop(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/stop", nil, nil)
}

// do asks the daemon. A question that changes nothing is asked again when the server that heard it is being replaced.
func (c Client) do(ctx context.Context, method, path string, body []byte, out any) error {
	for end := time.Now().Add(patience); ; {
		err := c.ask(ctx, method, path, body, out)
		if method != http.MethodGet || !errors.Is(err, errCutOff) || !c.kept() || time.Now().After(end) {
			return err
		}
	}
}

// errCutOff: the server ended before it answered.
var errCutOff = fmt.Errorf("%w: it ended before it answered", ErrNoDaemon)

func (c Client) ask(ctx context.Context, method, path string, body []byte, out any) error {
	hc := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://claudefs"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask daemon: %w", err)
	}
	resp, err := hc.Do(req)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("ask daemon at %s: %w", c.Socket, errCutOff)
	}
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("ask daemon at %s: %w", c.Socket, ErrNoDaemon)
	}
	if err != nil {
		return fmt.Errorf("ask daemon: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("ask daemon: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return remote(b, resp.Status)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("ask daemon: answer is not of this version: %w", err)
	}
	return nil
}

// patience is how long a command waits for a server that is being replaced.
const patience = 3 * time.Second

// dial connects. A socket on which nobody listens, or a keeper without a server, means that one will soon.
func (c Client) dial(ctx context.Context) (net.Conn, error) {
	for end := time.Now().Add(patience); ; {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
		if err == nil || !c.comingBack(err) || time.Now().After(end) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kept reports whether a keeper holds the mount.
func (c Client) kept() bool {
	k, err := keeper.ReadStatus(filepath.Dir(c.Socket))
	return err == nil && k.Alive()
}

func (c Client) comingBack(err error) bool {
	return c.kept() && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist))
}

func remote(body []byte, status string) error {
	var r reply
	if err := json.Unmarshal(body, &r); err != nil || r.Error == "" {
		return fmt.Errorf("ask daemon: it answered %s", status)
	}
	return &remoteError{text: r.Error, kind: kinds[r.Kind]}
}
