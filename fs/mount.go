package fs

import (
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Config is what the file system needs.
type Config struct {
	Mountpoint  string
	Gate        Gate
	Credentials Credentials
	Locks       Locks
	Screen      Screen
	// AllowOther lets other users than the daemon's in; containers with other uids need it. Without root it needs
	// user_allow_other in /etc/fuse.conf.
	AllowOther bool
	Log        *slog.Logger
}

// Mounted is a served mount.
type Mounted struct {
	server     *fuse.Server
	mountpoint string
	closed     sync.Once
	err        error
}

// Mount mounts and serves. It returns when the kernel has accepted the mount.
func Mount(cfg Config) (*Mounted, error) {
	if cfg.Gate == nil || cfg.Credentials == nil || cfg.Locks == nil || cfg.Screen == nil {
		return nil, errors.New("mount: gate, credentials, locks and screen are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	// Modes come from callers, already masked by their own umask.
	unix.Umask(0)
	root := &rootNode{cfg: &cfg, born: time.Now(), trees: map[string]*treeNode{}}
	server, err := fusefs.Mount(cfg.Mountpoint, root, options(&cfg))
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", cfg.Mountpoint, err)
	}
	return &Mounted{server: server, mountpoint: cfg.Mountpoint}, nil
}

func options(cfg *Config) *fusefs.Options {
	return &fusefs.Options{
		// No default timeouts: with one set, a node's 0 would mean "unset" and be replaced by it.
		NullPermissions: true,
		Logger:          log.New(slogWriter{cfg.Log}, "", 0),
		MountOptions: fuse.MountOptions{
			AllowOther: cfg.AllowOther,
			FsName:     "claudefs",
			Name:       "claudefs",
			// Root mounts by itself; others through fusermount3.
			DirectMount:      os.Geteuid() == 0,
			DirectMountFlags: unix.MS_NOSUID | unix.MS_NODEV,
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
		},
	}
}

// Dev is the device number of the mounted file system.
func (m *Mounted) Dev() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(m.mountpoint, &st); err != nil {
		return 0, fmt.Errorf("stat mountpoint: %w", err)
	}
	return st.Dev, nil
}

// Wait returns when the mount is gone.
func (m *Mounted) Wait() { m.server.Wait() }

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
