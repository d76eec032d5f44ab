package refresh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/claudefs/claudefs/vault"
)

// Store is what the refresher needs of a vault.
type Store interface {
	Load(vault.AccountID) (*vault.Credential, vault.Version, error)
	Store(*vault.Credential, vault.Version) (vault.Version, error)
	Exclusive(context.Context, vault.AccountID) (release func(), err error)
}

// Config says which endpoint renews tokens, and when.
type Config struct {
	Store    Store
	TokenURL string
	ClientID string
	Encoding Encoding
	// Window is how long before its end a token is renewed; see window. Default 10 minutes.
	Window time.Duration
	// Timeout bounds one request to the token endpoint. Default 10 seconds: longer than servers' grace for a
	// refresh token used twice makes a lost answer a lost login.
	Timeout time.Duration
	// Patience bounds how long a reader waits for a grant when it has no valid token. Default 1 second.
	Patience time.Duration
	// UserAgent is sent with grants.
	UserAgent string
	// Transport replaces the HTTP transport in tests; nil: the real one.
	Transport http.RoundTripper
	// OnGrant is told the outcome of every grant, before its token is served; an error holds the token back.
	OnGrant func(Event) error
	Log     *slog.Logger
}

// Event is the outcome of one grant.
type Event struct {
	Account    vault.AccountID
	Generation uint64    // of the token now in the vault
	ExpiresAt  time.Time // of that token
	Err        error     // nil: rotated
}

// Refresher hands out access tokens and renews them. It is safe for concurrent use.
type Refresher struct {
	cfg     Config
	client  *http.Client
	flights singleflight.Group
	waiters sync.WaitGroup
	wake    chan struct{}

	mu       sync.Mutex
	idle     *sync.Cond // of mu: flying became less
	flying   int        // those who wait for a flight, readers that gave up included
	closed   bool
	wanted   map[vault.AccountID]wish
	known    map[vault.AccountID]*vault.Credential // last good copy: served while the vault is locked
	unsaved  map[vault.AccountID]unsaved
	backoffs map[vault.AccountID]*backoffState
	watched  map[vault.AccountID]time.Time
	renewing map[vault.AccountID]bool // by Run
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Refresher, error) {
	if cfg.Store == nil || cfg.TokenURL == "" || cfg.ClientID == "" {
		return nil, errors.New("make refresher: store, token URL and client ID are required")
	}
	if cfg.Encoding == "" {
		cfg.Encoding = EncodingJSON
	}
	if cfg.Encoding != EncodingJSON && cfg.Encoding != EncodingForm {
		return nil, fmt.Errorf("make refresher: encoding %q: want json or form", cfg.Encoding)
	}
	u, err := url.Parse(cfg.TokenURL)
	if err != nil || u.Host == "" {
		return nil, errors.New("make refresher: token URL is not a URL") // its text could hold a password
	}
	cfg.TokenURL = u.String() // as the transport will see it
	cfg.Window = orDefault(cfg.Window, 10*time.Minute)
	cfg.Timeout = orDefault(cfg.Timeout, 10*time.Second)
	cfg.Patience = orDefault(cfg.Patience, time.Second)
	if cfg.UserAgent == "" {
		cfg.UserAgent = "claudefs"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Refresher{
		cfg: cfg, client: newClient(&cfg), wake: make(chan struct{}, 1),
		known: map[vault.AccountID]*vault.Credential{}, unsaved: map[vault.AccountID]unsaved{},
		backoffs: map[vault.AccountID]*backoffState{}, watched: map[vault.AccountID]time.Time{},
		renewing: map[vault.AccountID]bool{}, wanted: map[vault.AccountID]wish{},
	}
	r.idle = sync.NewCond(&r.mu)
	return r, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}

// Current returns what is known of the account now, without any grant: the vault's record, or the copy in memory
// while the vault is locked. Of an API key there is none: it has no end, so it would be served for ever.
func (r *Refresher) Current(a vault.AccountID) (*vault.Credential, error) {
	c, _, err := r.cfg.Store.Load(a)
	if err == nil {
		r.remember(c)
		return c, nil
	}
	if errors.Is(err, vault.ErrNotFound) {
		r.forget(a)
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.known[a]; ok && k.Kind == vault.KindOAuth {
		return k, nil
	}
	return nil, err
}

// Token returns an access token to hand out. A token that is still valid is returned at once, if need be while a
// grant runs for it in the background; without a valid one the caller waits for the grant, at most Config.Patience.
func (r *Refresher) Token(ctx context.Context, a vault.AccountID) (*vault.Credential, error) {
	r.Watch(a)
	c, err := r.Current(a)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if fresh(c, r.cfg.Window, now) {
		return c, nil
	}
	flight := r.start(ctx, a, c.Generation, false)
	if c.Usable(now) {
		return c, nil
	}
	return r.wait(ctx, flight)
}

// Renew returns a token newer than generation: the vault's, when it has one already, else that of a grant, which all
// callers share. It waits at most Config.Patience and then returns ErrSlow; the grant goes on. When it fails, Run goes on
// trying for a while: the token in hand does not work, and nobody may ask again.
func (r *Refresher) Renew(ctx context.Context, a vault.AccountID, generation uint64) (*vault.Credential, error) {
	c, err := r.wait(ctx, r.start(ctx, a, generation, false))
	if err != nil && !errors.Is(err, ErrLoginRequired) && !errors.Is(err, ErrStatic) {
		r.want(a, generation)
	}
	return c, err
}

// Ensure is Token for an operator: when a renewal is due it waits for the grant's end.
func (r *Refresher) Ensure(ctx context.Context, a vault.AccountID) (*vault.Credential, error) {
	c, err := r.Current(a)
	if err != nil || fresh(c, r.cfg.Window, time.Now()) {
		return c, err
	}
	return r.Force(ctx, a)
}

// Force is Renew for an operator: it does not mind an earlier failure's back-off and waits for the grant's end, also
// when ctx ends before: a process that ended meanwhile could lose the login.
func (r *Refresher) Force(ctx context.Context, a vault.AccountID) (*vault.Credential, error) {
	c, err := r.Current(a)
	if err != nil {
		return nil, err
	}
	return result(<-r.start(ctx, a, c.Generation, true))
}

// Drain waits for the grants under way and refuses new ones with ErrClosed from then on. A process that ended between
// the server's rotation and our commit could lose a login.
func (r *Refresher) Drain() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.Settle()
}

// Settle waits until no grant is under way.
func (r *Refresher) Settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.flying > 0 {
		r.idle.Wait()
	}
}

// begin counts a grant before it can start; false after Drain.
func (r *Refresher) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.flying++
	return true
}

func (r *Refresher) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flying--
	r.idle.Broadcast()
}

// start begins a grant or joins the one under way. The grant keeps ctx's values but not its end: a reader's signal
// must not stop it between the server's rotation and our commit.
func (r *Refresher) start(ctx context.Context, a vault.AccountID, generation uint64, force bool) <-chan singleflight.Result {
	out := make(chan singleflight.Result, 1)
	if !r.begin() {
		out <- singleflight.Result{Err: ErrClosed}
		return out
	}
	// A forced grant does not join one that only finds out that the next attempt is not due.
	key := fmt.Sprintf("%s/%d/%t", a, generation, force)
	flight := r.flights.DoChan(key, func() (any, error) {
		return r.fly(context.WithoutCancel(ctx), a, generation, force)
	})
	r.waiters.Go(func() {
		defer r.end()
		out <- <-flight
	})
	return out
}

func (r *Refresher) wait(ctx context.Context, flight <-chan singleflight.Result) (*vault.Credential, error) {
	patience := time.NewTimer(r.cfg.Patience)
	defer patience.Stop()
	select {
	case res := <-flight:
		return result(res)
	case <-patience.C:
		return nil, ErrSlow
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func result(res singleflight.Result) (*vault.Credential, error) {
	if res.Err != nil {
		return nil, res.Err
	}
	return res.Val.(*vault.Credential), nil
}

func (r *Refresher) remember(c *vault.Credential) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k, ok := r.known[c.Account]; !ok || k.Generation <= c.Generation {
		r.known[c.Account] = c
	}
}

func (r *Refresher) forget(a vault.AccountID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, a)
	delete(r.watched, a)
	delete(r.backoffs, a)
}
