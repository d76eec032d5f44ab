package refresh_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "child-tokens" {
		if err := childTokens(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const (
	account  = vault.AccountID("work")
	tokenURL = "https://as.test/v1/oauth/token"
	clientID = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
)

// memory is a Store in memory, with faults to order.
type memory struct {
	lock chan struct{}

	mu      sync.Mutex
	records map[vault.AccountID]vault.Credential
	version uint64
	loads   int
	loadErr error
	// fail is asked before a record is stored; placed tells that the record is put in place all the same.
	fail func(*vault.Credential) (placed bool, err error)
}

func newMemory(cs ...*vault.Credential) *memory {
	m := &memory{lock: make(chan struct{}, 1), records: map[vault.AccountID]vault.Credential{}, version: 1}
	for _, c := range cs {
		m.records[c.Account] = *c
	}
	return m
}

func (m *memory) current() (v vault.Version) {
	binary.BigEndian.PutUint64(v[:], m.version)
	return v
}

func (m *memory) Load(a vault.AccountID) (*vault.Credential, vault.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	if m.loadErr != nil {
		return nil, vault.Version{}, m.loadErr
	}
	c, ok := m.records[a]
	if !ok {
		return nil, vault.Version{}, vault.ErrNotFound
	}
	return &c, m.current(), nil
}

func (m *memory) Store(c *vault.Credential, want vault.Version) (vault.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if want != m.current() {
		return vault.Version{}, vault.ErrConflict
	}
	var placed bool
	var err error
	if m.fail != nil {
		placed, err = m.fail(c)
	}
	if err == nil || placed {
		m.version++
		m.records[c.Account] = *c
	}
	return m.current(), err
}

func (m *memory) Exclusive(ctx context.Context, _ vault.AccountID) (func(), error) {
	select {
	case m.lock <- struct{}{}:
		return func() { <-m.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) record(a vault.AccountID) vault.Credential {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[a]
}

func (m *memory) loadCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loads
}

func (m *memory) setFault(loadErr error, fail func(*vault.Credential) (bool, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loadErr, m.fail = loadErr, fail
}

// env is a refresher with one account, a server and no network. It belongs into a synctest bubble.
type env struct {
	srv   *refreshtest.Server
	store *memory
	r     *refresh.Refresher
	login refreshtest.Login

	mu     sync.Mutex
	events []refresh.Event
	veto   error // what OnGrant answers
}

func newEnv(t testing.TB, server refreshtest.Config, change func(*refresh.Config)) *env {
	t.Helper()
	e := &env{srv: refreshtest.New(server)}
	e.login = e.srv.NewLogin()
	e.store = newMemory(credential(account, e.login))
	cfg := refresh.Config{
		Store: e.store, TokenURL: tokenURL, ClientID: clientID, Transport: e.srv.Transport(),
		OnGrant: func(ev refresh.Event) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.events = append(e.events, ev)
			return e.veto
		},
	}
	if change != nil {
		change(&cfg)
	}
	e.r = newRefresher(t, cfg)
	return e
}

func newRefresher(t testing.TB, cfg refresh.Config) *refresh.Refresher {
	t.Helper()
	r, err := refresh.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// change alters the account's record before the test begins.
func (e *env) change(do func(*vault.Credential)) {
	c := e.store.records[account]
	do(&c)
	e.store.records[account] = c
}

// expire lets the access token have ended a second ago.
func (e *env) expire() {
	e.change(func(c *vault.Credential) {
		c.IssuedAt, c.ExpiresAt = c.IssuedAt.Add(-9*time.Hour), time.Now().Add(-time.Second)
	})
}

// reported lists what OnGrant was told.
func (e *env) reported() []refresh.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]refresh.Event(nil), e.events...)
}

func (e *env) posts() int { return len(e.srv.Requests()) }

func (e *env) wantPosts(t testing.TB, want int) {
	t.Helper()
	if got := e.posts(); got != want {
		t.Errorf("requests: got %d, want %d", got, want)
	}
}

func credential(a vault.AccountID, l refreshtest.Login) *vault.Credential {
	now := time.Now()
	return &vault.Credential{
		Account: a, AccessToken: secret(l.AccessToken), RefreshToken: secret(l.RefreshToken),
		ExpiresAt: l.ExpiresAt, IssuedAt: now, RotatedAt: now, Generation: 1, Scopes: l.Scopes, State: vault.StateValid,
	}
}

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }

// wantSilent checks that an error shows no token and nothing of an answer's body.
func wantSilent(t testing.TB, err error, tokens ...string) {
	t.Helper()
	for _, s := range append(tokens, "sk-ant", "ECHO") {
		if err != nil && s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("got %q: it shows %q", err, s)
		}
	}
}

func wantErr(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
