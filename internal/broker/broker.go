package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/settings"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// Attestor names callers from kernel facts.
type Attestor interface {
	Resolve(context.Context, identity.Caller) (*identity.Subject, error)
	ConfirmInit(s *identity.Subject, init uint32) error
	FirstOf(*identity.Subject, *identity.Facts) (identity.Process, error)
	Vouched(*identity.Facts) error
	Witness(s *identity.Subject, init uint32) (identity.Process, error)
	Alive(identity.Process) bool
}

// Tokens hands out and renews access tokens.
type Tokens interface {
	Current(vault.AccountID) (*vault.Credential, error)
	Token(context.Context, vault.AccountID) (*vault.Credential, error)
	Renew(ctx context.Context, a vault.AccountID, generation uint64) (*vault.Credential, error)
	Retry(vault.AccountID)
	Watch(vault.AccountID)
}

// Store is what the broker needs of the vault beyond tokens.
type Store interface {
	Load(vault.AccountID) (*vault.Credential, vault.Version, error)
	Store(*vault.Credential, vault.Version) (vault.Version, error)
	Exclusive(context.Context, vault.AccountID) (release func(), err error)
	LoadDocument(tree string) (vault.Secret, vault.Version, error)
	StoreDocument(tree string, doc vault.Secret, want vault.Version) (vault.Version, error)
	Derive(purpose string) (vault.Secret, error)
}

// Recorder writes the audit log.
type Recorder interface {
	Record(audit.Event) error
}

// Config is what a broker needs.
type Config struct {
	Policy   *policy.Policy // at first; SetPolicy changes it
	Attestor Attestor
	Runtime  identity.Runtime // nil: kernel facts only
	Tokens   Tokens
	Store    Store
	Audit    Recorder
	Memory   Memory // nil: what is remembered of a tree ends with the process
	// StateDir holds trees/<tree>.
	StateDir string
	// EphemeralDir holds the state of trees whose rule says so, for as long as their containers run; "": there are none.
	EphemeralDir string
	// SettingsBase is the host's file that trees' settings.json is laid over, where their rules say so; it may be
	// missing. "": there is none.
	SettingsBase string
	Mountpoint   string
	// Account is the account of shared trees, and of others without one of their own when AccountGiven.
	Account      vault.AccountID
	AccountGiven bool
}

// Broker implements the file system's source. It is safe for concurrent use.
type Broker struct {
	cfg   Config
	since time.Time

	policy atomic.Pointer[policy.Policy]
	limits limits
	base   settingsBase
	// parsing is held while a tree's settings are looked at, which may take a hundred times their size in memory: of all
	// that are opened at once, one at a time.
	parsing sync.Mutex

	refusals refusals

	mu    sync.Mutex
	trees map[string]*tree
	hmac  vault.Secret         // derived once, so that a locked vault's trees keep their surrogates
	uses  map[useKey]time.Time // until when a yes of Use holds
}

// tree is what the broker remembers of a tree while it runs.
type tree struct {
	name string

	mu       sync.Mutex
	doc      *document // sealed in the vault; nil until first needed
	version  vault.Version
	pin      *pin   // the account that readers get
	claim    *claim // the container that an isolated tree belongs to
	place    place
	tenants  []tenant
	sweeping sync.Mutex // held while an ephemeral tree's files are taken away; before mu
	waiting  []Waiting  // readers that nobody has approved yet
	approved []Waiting
	read     reading     // the newest token that was handed to the tree
	handed   []handed    // tokens to screen for
	busy     time.Time   // until when the lock is shown as the daemon's
	forced   []time.Time // recent renewals that the tree's clients asked for
	last     Reader
	hidden   map[string][]settings.Removed // of its settings files, what readers were not shown last
	sized    sized                         // of the version that was described last
	changed  bool                          // since it was saved
	unsaved  error                         // why it could not be
}

// reading names the token that a tree read last. Without an account it stands for whatever was read before this daemon
// began: a client that asks for a newer token has read one, and what is older than the daemon is no news to it.
type reading struct {
	account vault.AccountID
	rotated time.Time
}

// Reader is who read a tree last, for status.
type Reader struct {
	At        time.Time
	Container string
	Name      string
	Outcome   string // "allowed", or the reason of the refusal
}

// New checks cfg. It starts nothing and reads nothing.
func New(cfg Config) (*Broker, error) {
	if cfg.Policy == nil || cfg.Attestor == nil || cfg.Tokens == nil || cfg.Store == nil || cfg.Audit == nil {
		return nil, errors.New("make broker: policy, attestor, tokens, store and audit are required")
	}
	if cfg.Account == "" {
		cfg.Account = "default"
	}
	b := &Broker{cfg: cfg, since: time.Now(), trees: map[string]*tree{}, uses: map[useKey]time.Time{}}
	b.policy.Store(cfg.Policy)
	return b, nil
}

// SetPolicy puts another policy in force, for whatever is asked from now on. Trees keep whom they belong to, and lose
// the account that the old policy gave them.
func (b *Broker) SetPolicy(p *policy.Policy) {
	b.policy.Store(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.uses)
	for _, t := range b.trees {
		t.mu.Lock()
		t.changed = t.changed || t.pin != nil
		t.pin = nil
		t.mu.Unlock()
	}
}

func (b *Broker) tree(name string) *tree {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.trees[name]
	if !ok {
		t = &tree{name: name, read: reading{rotated: b.since}}
		b.recall(t)
		b.trees[name] = t
	}
	return t
}
