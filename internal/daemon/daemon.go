package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/config"
	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// ErrRunning: another daemon works on the same state directory.
var ErrRunning = errors.New("another claudefs works on this state directory")

// Options are what a daemon needs beyond the configuration.
type Options struct {
	Config     *config.Config
	Mountpoint string
	PolicyName string // as the user gave it: an embedded policy's name or a file
	Policy     *policy.Policy
	// PolicyErr is why Policy is not what PolicyName says now, but what was in force before a crash.
	PolicyErr error
	// Account is the account of shared trees; AccountGiven says that the user named it.
	Account      vault.AccountID
	AccountGiven bool
	Passphrase   func(context.Context) (vault.Secret, error)
	Log          *slog.Logger
	// Store is what outlives the process.
	Store *fdstore.Store
	// LastEnd says how the server before this one ended: fdstore.EndSelf or fdstore.EndOther.
	LastEnd string
	// Args is the command line without the program, for the next server. Stderr is where a keeper writes.
	Args   []string
	Stderr *os.File
	// Reload has the daemon follow itself, with the configuration and policy as they are then.
	Reload <-chan os.Signal
	// Ready is called once, when the mount answers. Notice is for the user and may be empty; tookOver says that another
	// server had the mount before.
	Ready func(notice string, tookOver bool)
}

// Daemon serves one mount.
type Daemon struct {
	opt      Options
	since    time.Time
	stop     context.CancelFunc
	vault    *vault.Vault
	tokens   *refresh.Refresher
	audit    *audit.Log
	broker   *broker.Broker
	resolver *identity.Resolver
	runtimes []*container.Docker
	cache    *container.Cache
	accounts *accounts.Accounts
	carry    *carry
	mounted  *fs.Mounted
	asked    atomic.Bool  // the mount is to end
	signaled func() error // not nil after SIGTERM
	// handing is held by a hand-over; next is what it leads to.
	handing  sync.Mutex
	next     atomic.Pointer[string]
	reloaded atomic.Pointer[reload]

	reading    sync.Mutex // held while the policy is read again
	policyPath string     // an embedded policy's name, or an absolute path
	policy     atomic.Pointer[policyRead]

	// passphrase overrides Options.Passphrase for one unlock by command.
	passphrase atomic.Pointer[vault.Secret]
}

// New checks the options and makes the runtime clients. It has no side effects.
func New(opt Options) (*Daemon, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Store == nil {
		opt.Store = fdstore.New(map[string]int{}, "")
	}
	d := &Daemon{opt: opt}
	if err := d.findPolicy(); err != nil {
		return nil, fmt.Errorf("find policy: %w", err)
	}
	for _, host := range opt.Config.Runtimes {
		r, err := container.NewDocker(host)
		if err != nil {
			return nil, err
		}
		d.runtimes = append(d.runtimes, r)
	}
	d.cache = container.NewCache(opt.Log, d.runtimes...)
	return d, nil
}

// lockState takes the sole right to the state directory. The lock goes with the process.
func (d *Daemon) lockState() (*flock.Flock, error) {
	dir := d.opt.Config.StateDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state directory: %w", err)
	}
	l := flock.New(filepath.Join(dir, "daemon.lock"), flock.SetPermissions(0o600))
	ok, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrRunning, dir)
	}
	return l, nil
}

// openVault opens the vault, or makes it at the first start. A vault that stays locked is no reason not to mount:
// trees then answer EIO until it is unlocked.
func (d *Daemon) openVault(ctx context.Context) (notice string, err error) {
	cfg := d.vaultConfig()
	d.vault, err = vault.Open(cfg)
	if errors.Is(err, vault.ErrNoVault) {
		backend, err := vault.ParseBackend(d.opt.Config.Vault.Backend)
		if err != nil {
			return "", err
		}
		d.vault, notice, err = vault.Create(ctx, cfg, backend)
		return notice, err
	}
	if err != nil {
		return "", err
	}
	if err := d.vault.Unlock(ctx); err != nil {
		d.opt.Log.Warn("Vault is locked", "err", err)
		return "vault is locked: " + err.Error(), nil
	}
	return "", nil
}

func (d *Daemon) vaultConfig() vault.Config {
	return vault.Config{Dir: d.opt.Config.VaultDir(), Passphrase: d.askPassphrase, Held: heldKey{d.carry.sealed}, Log: d.opt.Log}
}

func (d *Daemon) askPassphrase(ctx context.Context) (vault.Secret, error) {
	if p := d.passphrase.Load(); p != nil {
		return *p, nil
	}
	if d.opt.Passphrase == nil {
		return vault.Secret{}, errors.New("no passphrase is configured")
	}
	return d.opt.Passphrase(ctx)
}

// build makes the parts that need an open vault and audit log.
func (d *Daemon) build() error {
	var err error
	cfg := d.opt.Config
	if d.tokens, err = refresh.New(refresh.Config{
		Store: d.vault, TokenURL: cfg.OAuth.TokenURL, ClientID: cfg.OAuth.ClientID, Encoding: cfg.OAuth.Encoding,
		Window: cfg.Refresh.Window, OnGrant: accounts.RecordGrants(d.audit), Log: d.opt.Log,
	}); err != nil {
		return err
	}
	if d.resolver, err = identity.NewResolver(); err != nil {
		return err
	}
	b := broker.Config{
		Policy: d.opt.Policy, Attestor: d.resolver, Tokens: d.tokens, Store: d.vault, Audit: d.audit,
		Memory: treeNotes{d.carry.sealed}, StateDir: cfg.StateDir, EphemeralDir: filepath.Join(cfg.RuntimeDir, "ephemeral"), SettingsBase: cfg.Settings.Base,
		Mountpoint: d.opt.Mountpoint, Account: d.opt.Account, AccountGiven: d.opt.AccountGiven,
	}
	if d.cache.Configured() {
		b.Runtime = d.cache
	}
	if d.broker, err = broker.New(b); err != nil {
		return err
	}
	d.accounts = &accounts.Accounts{Vault: d.vault, Tokens: d.tokens, Audit: d.audit}
	return nil
}

// Accounts implements control.Daemon.
func (d *Daemon) Accounts() *accounts.Accounts { return d.accounts }

// ResetTree implements control.Daemon.
func (d *Daemon) ResetTree(name string) error { return d.broker.Reset(name) }

// Approve implements control.Daemon.
func (d *Daemon) Approve(tree, reader string) ([]broker.Waiting, error) {
	return d.broker.Approve(tree, reader)
}

// Stop implements control.Daemon: Run unmounts and ends.
func (d *Daemon) Stop() {
	d.asked.Store(true)
	d.stop()
}

// Vault implements control.Daemon.
func (d *Daemon) Vault() control.Vault { return daemonVault{d} }

// daemonVault is the daemon's vault as commands see it.
type daemonVault struct{ d *Daemon }

// Lock implements control.Vault.
func (v daemonVault) Lock() {
	v.d.tokens.Settle() // a grant that is under way has to reach the vault
	v.d.vault.Lock()
}

// Unlock implements control.Vault.
func (v daemonVault) Unlock(ctx context.Context, passphrase []byte) error {
	if len(passphrase) > 0 {
		s := vault.NewSecret(passphrase)
		v.d.passphrase.Store(&s)
		defer func() {
			v.d.passphrase.Store(nil)
			s.Wipe()
		}()
	}
	return v.d.vault.Unlock(ctx)
}
