package fs

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/ledger"
	"github.com/claudefs/claudefs/internal/sealed"
	"github.com/claudefs/claudefs/internal/serve"
)

// Config is what the file system needs.
type Config struct {
	Mountpoint  string
	Gate        Gate
	Credentials Credentials
	Keys        Keys
	Locks       Locks
	Screen      Screen
	Settings    Settings
	// AllowOther lets other users than the daemon's in; containers with other uids need it. Without root it needs
	// user_allow_other in /etc/fuse.conf.
	AllowOther bool
	// Device is /dev/fuse of the mounted file system (serve.Mount); it belongs to the file system from then on.
	Device int
	// Ledger, Sealed and Orphans outlive the server. Without a ledger the mount ends with the process.
	Ledger  *ledger.Ledger
	Sealed  *sealed.Arena
	Orphans Orphans
	// Blame is what a request is charged that the last server had not answered: serve.BlameSelf and its kin.
	Blame uint64
	// NoResend is for kernels that cannot send requests again; serve finds out by itself, and tests ask for it.
	NoResend bool
	Log      *slog.Logger

	settling *settling
}

func (c *Config) validate() error {
	if c.Gate == nil || c.Credentials == nil || c.Keys == nil || c.Locks == nil || c.Screen == nil || c.Settings == nil {
		return errors.New("mount: gate, credentials, keys, locks, screen and settings are required")
	}
	if c.Sealed == nil || c.Ledger != nil && c.Orphans == nil {
		return errors.New("mount: sealed memory, and with a ledger a keeper of orphans, are required")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Mounted is a mount that this process serves.
type Mounted struct {
	server     *serve.Server
	mountpoint string
	cfg        *Config
	sweeping   sweeping
	done       chan struct{}
	closed     sync.Once
	err        error
}

// Attach makes the file system ready to answer the requests of cfg.Device.
func Attach(cfg Config) (*Mounted, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	// Modes come from callers, already masked by their own umask.
	unix.Umask(0)
	server, err := serve.Attach(serve.Config{
		FS: newNodeFS(&cfg), Options: *mountOptions(&cfg), Device: cfg.Device, Ledger: cfg.Ledger,
		Blame: cfg.Blame, NoResend: cfg.NoResend, Closed: cfg.closed, Forgot: cfg.forgot, Virtual: virtualName, Log: cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", cfg.Mountpoint, err)
	}
	if server.TookOver() {
		cfg.tidy()
	}
	return &Mounted{server: server, mountpoint: cfg.Mountpoint, cfg: &cfg, done: make(chan struct{})}, nil
}

// Prove reports whether a file system of this program could take a connection over that began with this INIT exchange.
func Prove(cfg Config, request, reply []byte) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	return serve.Prove(newNodeFS(&cfg), *mountOptions(&cfg), request, reply)
}

func newNodeFS(cfg *Config) fuse.RawFileSystem {
	cfg.settling = &settling{}
	root := &rootNode{cfg: cfg, born: time.Now(), trees: map[string]*treeNode{}}
	nodes := fusefs.NewNodeFS(root, &fusefs.Options{
		// No default timeouts: with one set, a node's 0 would mean "unset" and be replaced by it.
		NullPermissions: true,
		Logger:          log.New(slogWriter{cfg.Log}, "", 0),
	})
	return &settledFS{RawFileSystem: nodes, settling: cfg.settling}
}

func mountOptions(cfg *Config) *fuse.MountOptions {
	return &fuse.MountOptions{
		// The kernel then answers every xattr call with EOPNOTSUPP itself, which Docker and mv expect.
		DisableXAttrs: true,
		Logger:        log.New(slogWriter{cfg.Log}, "", 0),
		PanicHandler: func(v any) fuse.Status {
			cfg.Log.Error("Request handler panicked", "panic", v, "stack", string(debug.Stack()))
			return fuse.EIO
		},
		// O_TRUNC arrives with OPEN and not as a truncation without handle.
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC,
		// Writes to state files are screened, so they have to come to us.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
	}
}

// Serve answers requests until the mount is gone.
func (m *Mounted) Serve() {
	defer close(m.done)
	m.server.Serve()
}

// Done is closed when Serve has returned.
func (m *Mounted) Done() <-chan struct{} { return m.done }

// Dev is the device number of the mounted file system. The file system has to be served.
func (m *Mounted) Dev() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(m.mountpoint, &st); err != nil {
		return 0, fmt.Errorf("stat mountpoint: %w", err)
	}
	return st.Dev, nil
}

// Pause lets no further request begin and waits until none is under way, or done ends. For a hand-over.
func (m *Mounted) Pause(done <-chan struct{}) { m.server.Pause(done) }

// Resume ends a pause.
func (m *Mounted) Resume() { m.server.Resume() }

// Stuck reports whether a request has not been answered since the last but one call.
func (m *Mounted) Stuck() bool { return m.server.Stuck() }

// Missed does what is left to do about a request that somebody else answered while no server did.
func (m *Mounted) Missed(r serve.Missed) { m.server.Missed(r) }

// Sweep lets go of kept files that nobody needs any more. It is called every few seconds, by one goroutine.
func (m *Mounted) Sweep() {
	if m.cfg.Ledger != nil {
		m.sweeping.sweep(m.cfg)
	}
}

// Close unmounts. While a container still binds a tree an ordinary unmount would wait for it for ever, so after the
// mountpoint is free the connection ends with us: the container then sees ENOTCONN.
func (m *Mounted) Close() error {
	m.closed.Do(func() { m.err = detach(m.mountpoint) })
	return m.err
}

// slogWriter takes go-fuse's own messages.
type slogWriter struct{ log *slog.Logger }

func (w slogWriter) Write(b []byte) (int, error) {
	w.log.Debug("go-fuse", "message", string(b))
	return len(b), nil
}
