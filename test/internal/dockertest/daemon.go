package dockertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
)

// Config says how the daemon differs from the default one.
type Config struct {
	// Args are further flags of dockerd, such as "--live-restore" or
	// "--userns-remap=NAME". The latter needs the user NAME and its lines in
	// /etc/subuid and /etc/subgid.
	Args []string

	// Dir is where the daemon's tree is made; empty means os.TempDir. The path
	// must be short, for a Unix socket's path has at most 107 bytes, and made of
	// letters, digits and "/._-".
	Dir string
}

// Daemon is a private dockerd, or Podman service. Its methods may be called from several
// goroutines, except that Halt, Resume, Restart and Stop exclude each other.
type Daemon struct {
	engine   *engine
	root     string
	docker   string // the client binary that understands this daemon
	args     []string
	guardian *guardian

	mu      sync.Mutex
	proc    *process // nil while halted
	stopped bool
	stopErr error
}

// safePath is what may be in the tree's path: the guardian's shell code splits
// lists of paths at white space.
var safePath = regexp.MustCompile(`^[A-Za-z0-9/._-]+$`)

// maxSocketPath is sizeof(sockaddr_un.sun_path) less the final NUL.
const maxSocketPath = 107

// Start runs a daemon and returns when it answers. The caller must Stop it; if
// the process ends before, the guardian does.
func Start(ctx context.Context, cfg Config) (*Daemon, error) { return start(ctx, docker, cfg) }

func start(ctx context.Context, e *engine, cfg Config) (*Daemon, error) {
	root, err := makeRoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	d := &Daemon{engine: e, root: root}
	if err := d.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) start(ctx context.Context, cfg Config) error {
	clients, err := findClients()
	if err != nil {
		return err
	}
	d.docker = clients[0]
	// The guardian first: from here on nothing can be left behind.
	if d.guardian, err = startGuardian(d.root, d.engine.guardian, d.environ()); err != nil {
		return err
	}
	if d.args, err = d.engine.args(d, cfg.Args); err != nil {
		return err
	}
	if err := d.Resume(ctx); err != nil {
		return err
	}
	return d.chooseClient(ctx, clients)
}

func makeRoot(dir string) (string, error) {
	root, err := os.MkdirTemp(dir, "dockertest-")
	if err != nil {
		return "", fmt.Errorf("make daemon tree: %w", err)
	}
	sock := filepath.Join(root, "docker.sock")
	if !safePath.MatchString(root) || len(sock) > maxSocketPath || !filepath.IsAbs(root) {
		return "", errors.Join(fmt.Errorf("make daemon tree: unsuitable path %q", root), os.Remove(root))
	}
	// With --userns-remap the root of a container is an ordinary user here, and
	// has to pass through.
	if err := os.Chmod(root, 0o711); err != nil {
		return "", errors.Join(fmt.Errorf("make daemon tree: %w", err), os.Remove(root))
	}
	return root, nil
}

// daemonArgs returns dockerd's command line.
func (d *Daemon) daemonArgs(extra []string) ([]string, error) {
	driver, err := storageDriver(d.root)
	if err != nil {
		return nil, err
	}
	// Without its own configuration file, dockerd reads the machine's, and
	// refuses to start when a setting there repeats a flag.
	config := filepath.Join(d.root, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write daemon configuration: %w", err)
	}
	args := []string{
		"--config-file", config,
		"--host", d.Socket(),
		"--data-root", filepath.Join(d.root, "data"),
		"--exec-root", filepath.Join(d.root, "exec"),
		"--pidfile", filepath.Join(d.root, "pid"),
		"--storage-driver", driver,
		// dockerd joins a containerd that runs as a service. The containers of
		// both dockerds would then be in one namespace.
		"--containerd-namespace", filepath.Base(d.root),
		"--containerd-plugins-namespace", filepath.Base(d.root) + "-plugins",
		"--exec-opt", "native.cgroupdriver=cgroupfs",
		"--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false",
	}
	return append(args, extra...), nil
}

// Socket returns the daemon's address as DOCKER_HOST takes it: "unix://" and
// the path.
func (d *Daemon) Socket() string { return "unix://" + d.socketPath() }

func (d *Daemon) socketPath() string { return filepath.Join(d.root, "docker.sock") }

// Log returns what the daemon has written so far.
func (d *Daemon) Log() string {
	data, err := os.ReadFile(d.logPath())
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (d *Daemon) logPath() string { return filepath.Join(d.root, "log") }

// Restart ends the daemon and starts it again. Containers go on running only
// with --live-restore.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.Halt(ctx); err != nil {
		return err
	}
	return d.Resume(ctx)
}

// Stop removes the containers, ends the daemon and deletes its tree. It may be
// called again, and then returns the first call's error.
func (d *Daemon) Stop() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return d.stopErr
	}
	d.stopped = true
	if d.guardian == nil { // start did not come this far
		d.stopErr = os.RemoveAll(d.root)
		return d.stopErr
	}
	d.stopErr = d.guardian.finish()
	return d.stopErr
}

func (d *Daemon) isStopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// lookPath finds a program also where only root's PATH leads.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("find program: %w", err)
}

// Root is the directory below which the daemon and its containers write everything.
func (d *Daemon) Root() string { return d.root }
