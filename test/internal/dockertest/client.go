package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Docker returns the command of the docker client with these arguments, bound
// to this daemon. The client's own settings (contexts, logins) are not used.
func (d *Daemon) Docker(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.docker, args...)
	cmd.Env = d.environ()
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run runs the docker client, and returns its standard output without the last
// line end. A failure ends the test.
func (d *Daemon) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := d.output(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// output is Run for callers without a test.
func (d *Daemon) output(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := d.Docker(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimRight(stdout.String(), "\n"), nil
}

// environ returns the environment for everything that belongs to the daemon.
// Variables of the caller that would lead a client elsewhere are left out.
func (d *Daemon) environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "DOCKER_") && !strings.HasPrefix(kv, "CONTAINER") && !strings.HasPrefix(kv, "PATH=") {
			env = append(env, kv)
		}
	}
	return append(append(env, d.engine.env(d)...),
		"PATH="+os.Getenv("PATH")+":/usr/sbin:/usr/bin:/sbin:/bin", // containerd, runc, umount
		"DOCKER_HOST="+d.Socket(),
		"DOCKER_CONFIG="+filepath.Join(d.root, "client"),
		"DOCKERTEST_ROOT="+d.root,
		"DOCKERTEST_DOCKER="+d.clientLink(),
	)
}

// clientLink is how the guardian, which runs before the choice is made, finds
// the client.
func (d *Daemon) clientLink() string { return filepath.Join(d.root, "docker") }

// findClients returns every docker client in PATH, the preferred one first.
func findClients() ([]string, error) {
	var clients []string
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin") {
		if path, err := exec.LookPath(filepath.Join(dir, "docker")); err == nil {
			clients = append(clients, path)
		}
	}
	if len(clients) == 0 {
		return nil, fmt.Errorf("find docker client: %w", exec.ErrNotFound)
	}
	return clients, nil
}

// chooseClient settles on the first client that the daemon serves. A machine
// may have a client of its own beside the distribution's, and a new client
// refuses an old daemon (29 asks for API 1.44, Debian 12's dockerd has 1.41).
func (d *Daemon) chooseClient(ctx context.Context, clients []string) error {
	var errs []error
	for _, client := range clients {
		d.docker = client
		_, err := d.output(ctx, "version", "--format", "{{.Server.APIVersion}}")
		if err == nil {
			return os.Symlink(client, d.clientLink())
		}
		errs = append(errs, fmt.Errorf("%s: %w", client, err))
	}
	return fmt.Errorf("choose docker client: %w", errors.Join(errs...))
}
