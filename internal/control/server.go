package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/vault"
)

// maxBody bounds a request, in bytes: a credential file and a little more.
const maxBody = 2 << 20

// Server answers commands.
type Server struct {
	listener net.Listener
	http     *http.Server
	daemon   Daemon
}

// Listen makes the socket, replacing one that a dead daemon left.
func Listen(path string) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	if err := clearStale(path); err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for commands: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen for commands: %w", err), l.Close())
	}
	return &Server{listener: l}, nil
}

// clearStale removes a socket on which nobody listens. The caller's lock is on the state directory, and a daemon with
// another one may use the same path.
func clearStale(path string) error {
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case st.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("another daemon listens on %s", path), c.Close())
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Serve answers for d until ctx ends; it waits a moment for requests under way.
func (s *Server) Serve(ctx context.Context, d Daemon) error {
	s.daemon = d
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: 5 * time.Second, ConnContext: withPeer,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = s.http.Shutdown(grace)
	})
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve commands: %w", err)
	}
	<-done // the listener closes first, and what a request uses must outlive it
	return nil
}

// Close removes the socket.
func (s *Server) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close command socket: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	handle := func(pattern string, f func(*http.Request) (any, error)) {
		m.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { answer(w, r, f) })
	}
	handle("GET /v1/status", func(r *http.Request) (any, error) { return s.daemon.Status(r.Context()) })
	handle("GET /v1/accounts", func(*http.Request) (any, error) { return s.daemon.Accounts().List() })
	handle("GET /v1/accounts/{id}", func(r *http.Request) (any, error) { return s.daemon.Accounts().Show(account(r)) })
	handle("PUT /v1/accounts/{id}", s.importAccount)
	handle("PUT /v1/accounts/{id}/key", s.setKey)
	handle("DELETE /v1/accounts/{id}", func(r *http.Request) (any, error) {
		return struct{}{}, s.daemon.Accounts().Remove(r.Context(), account(r))
	})
	handle("POST /v1/accounts/{id}/refresh", func(r *http.Request) (any, error) {
		return s.daemon.Accounts().Refresh(r.Context(), account(r), r.URL.Query().Get("force") == "true")
	})
	handle("POST /v1/trees/{name}/reset", func(r *http.Request) (any, error) {
		return struct{}{}, s.daemon.ResetTree(r.PathValue("name"))
	})
	handle("POST /v1/trees/{name}/approve", func(r *http.Request) (any, error) {
		return s.daemon.Approve(r.PathValue("name"), r.URL.Query().Get("reader"))
	})
	handle("POST /v1/policy/explain", s.explain)
	handle("POST /v1/policy/reload", func(*http.Request) (any, error) { return s.daemon.ReloadPolicy() })
	handle("POST /v1/vault/lock", func(*http.Request) (any, error) { s.daemon.Vault().Lock(); return struct{}{}, nil })
	handle("POST /v1/vault/unlock", s.unlock)
	handle("POST /v1/handover", s.handOver)
	handle("POST /v1/stop", func(*http.Request) (any, error) { s.daemon.Stop(); return struct{}{}, nil })
	return m
}

func account(r *http.Request) vault.AccountID { return vault.AccountID(r.PathValue("id")) }

func (s *Server) importAccount(r *http.Request) (any, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read credential file: %w", err)
	}
	defer clear(b)
	return s.daemon.Accounts().Import(r.Context(), account(r), b)
}

func (s *Server) setKey(r *http.Request) (any, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer clear(b)
	return s.daemon.Accounts().SetKey(r.Context(), account(r), b)
}

func (s *Server) handOver(r *http.Request) (any, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read program's path: %w", err)
	}
	return struct{}{}, s.daemon.HandOver(r.Context(), string(b))
}

func (s *Server) unlock(r *http.Request) (any, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	return struct{}{}, s.daemon.Vault().Unlock(r.Context(), b)
}

func answer(w http.ResponseWriter, r *http.Request, f func(*http.Request) (any, error)) {
	w.Header().Set("Content-Type", "application/json")
	if !allowed(r.Context()) {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(reply{Error: "only the daemon's own user and root may command it"})
		return
	}
	out, err := f(r)
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(reply{Error: err.Error(), Kind: kindOf(err)})
		return
	}
	_ = json.NewEncoder(w).Encode(out)
}

type peerKey struct{}

// withPeer keeps the peer's credentials, which the kernel vouches for.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, cred)
}

// allowed reports whether the peer is the daemon's own user or root, in the daemon's own pid namespace: root in a
// container that was given the socket has the same number. Fail closed: an unknown peer is nobody.
func allowed(ctx context.Context) bool {
	cred, ok := ctx.Value(peerKey{}).(*unix.Ucred)
	if !ok || cred.Pid == 0 || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return false
	}
	theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", cred.Pid))
	ours, err2 := os.Readlink("/proc/self/ns/pid")
	return err1 == nil && err2 == nil && theirs == ours
}

func (s *Server) explain(r *http.Request) (any, error) {
	var q Question
	d := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return nil, fmt.Errorf("read question: %w", err)
	}
	return s.daemon.Explain(r.Context(), q)
}
