package dockertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// removeTimeout bounds the removal of a container at a test's end.
const removeTimeout = 30 * time.Second

// RunConfig describes a container to run.
type RunConfig struct {
	Name    string // empty: Docker chooses
	Image   string
	Mounts  []string // values of --mount
	Volumes []string // values of --volume, which creates a missing source
	Labels  map[string]string
	Env     map[string]string
	User    string   // empty: root
	CapAdd  []string // values of --cap-add
	Network string   // empty: "none"
	Args    []string // further flags of "docker run", such as "--pid=host"
	Cmd     []string // empty: "sleep infinity"
}

func (c RunConfig) args() []string {
	network := c.Network
	if network == "" {
		network = "none"
	}
	// The first process of a container ignores SIGTERM unless it handles it,
	// and each stop would take Docker's 10 s of grace.
	args := []string{"run", "--detach", "--pull=never", "--stop-signal=SIGKILL", "--network=" + network}
	if c.Name != "" {
		args = append(args, "--name="+c.Name)
	}
	if c.User != "" {
		args = append(args, "--user="+c.User)
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{
		{"--mount=", c.Mounts},
		{"--volume=", c.Volumes},
		{"--cap-add=", c.CapAdd},
		{"--label=", pairs(c.Labels)},
		{"--env=", pairs(c.Env)},
		{"", c.Args},
		{"", []string{c.Image}},
		{"", c.Cmd},
	} {
		for _, value := range list.values {
			args = append(args, list.flag+value)
		}
	}
	if len(c.Cmd) == 0 {
		args = append(args, "sleep", "infinity")
	}
	return args
}

// pairs returns the map as sorted "key=value" words.
func pairs(m map[string]string) []string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		words = append(words, key+"="+m[key])
	}
	return words
}

// Container is a container of a private daemon.
type Container struct {
	// ID is the full container ID, 64 hexadecimal digits.
	ID string

	d *Daemon
	t testing.TB
}

// RunContainer starts a container, which is removed when the test ends. A
// container that does not start ends the test.
func (d *Daemon) RunContainer(t testing.TB, cfg RunConfig) *Container {
	t.Helper()
	c := &Container{ID: d.Run(t, cfg.args()...), d: d, t: t}
	t.Cleanup(c.Remove)
	return c
}

// Exec runs a command in the container as the user (empty: the container's
// own), and returns its output and exit status. The status is -1, and stderr
// says why, if docker itself could not be run to its end.
func (c *Container) Exec(ctx context.Context, user string, argv ...string) (stdout, stderr string, code int) {
	args := []string{"exec"}
	if user != "" {
		args = append(args, "--user", user)
	}
	var outBuf, errBuf bytes.Buffer
	cmd := c.d.Docker(ctx, append(append(args, c.ID), argv...)...)
	cmd.Stdout, cmd.Stderr = &outBuf, &errBuf
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		code = 0
	case errors.As(err, &exit):
		code = exit.ExitCode() // -1 after a signal
	default:
		code = -1
	}
	if code == -1 {
		fmt.Fprintf(&errBuf, "docker exec: %v", errors.Join(err, ctx.Err()))
	}
	return outBuf.String(), errBuf.String(), code
}

// Pid returns the process ID of the container's first process on this machine.
func (c *Container) Pid() int {
	c.t.Helper()
	pid, err := strconv.Atoi(c.d.Run(c.t, "inspect", "--type=container", "--format={{.State.Pid}}", c.ID))
	if err != nil || pid == 0 {
		c.t.Fatalf("container %.12s does not run: pid %d, %v", c.ID, pid, err)
	}
	return pid
}

// Pids returns the process IDs, on this machine, of all processes in the
// container's pid namespace, those of Exec included. It asks the kernel, so
// that it finds also a process that has left the container's cgroup.
func (c *Container) Pids() []int {
	c.t.Helper()
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.Pid()))
	if err != nil {
		c.t.Fatal(err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		c.t.Fatal(err)
	}
	var pids []int
	for _, link := range links {
		// A process that ended in between is none of the container's.
		if got, err := os.Readlink(link); err == nil && got == want {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Remove kills and removes the container with its anonymous volumes. It may be
// called again, and after the daemon's Stop.
func (c *Container) Remove() {
	c.t.Helper()
	if c.ID == "" || c.d.isStopped() {
		return
	}
	// The test's own context ends before its clean-ups run.
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	if _, err := c.d.output(ctx, "rm", "--force", "--volumes", c.ID); err != nil && !strings.Contains(err.Error(), "No such container") {
		c.t.Errorf("remove container: %v", err)
	}
}
