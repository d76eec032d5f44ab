package dockertest

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed podman_guardian.sh
var podmanGuardian string

// podman serves Docker's API from "podman system service". Containers have no
// daemon: each has its conmon, and lives on when the service ends.
var podman = &engine{
	program:  "podman",
	needs:    []string{"conmon", "runc", "busybox"},
	guardian: podmanGuardian,
	args:     (*Daemon).podmanArgs,
	env: func(d *Daemon) []string {
		// conmon calls podman when its container ends, with these too.
		return []string{"CONTAINERS_CONF=" + filepath.Join(d.root, "containers.conf"), "CONTAINERS_STORAGE_CONF=" + filepath.Join(d.root, "storage.conf")}
	},
}

// StartPodman is Start for Podman. Its Args are further flags of podman itself,
// before "system service".
func StartPodman(ctx context.Context, cfg Config) (*Daemon, error) { return start(ctx, podman, cfg) }

// NewPodman is New for Podman.
func NewPodman(t testing.TB, cfg Config) *Daemon {
	t.Helper()
	RequirePodman(t)
	return newDaemon(t, podman, cfg)
}

// UnavailablePodman is Unavailable for Podman.
func UnavailablePodman() error { return unavailable(podman) }

// RequirePodman is Require for Podman.
func RequirePodman(t testing.TB) {
	t.Helper()
	require(t, UnavailablePodman())
}

// podmanConf makes a service that takes nothing from the machine's Podman and
// leaves nothing in its places.
//   - crun, the default, refuses the hybrid cgroups of this project's machines.
//   - Raising limits, as the default does, needs CAP_SYS_RESOURCE.
//   - Locks in shared memory are those of every Podman of root on the machine,
//     and a new one with an empty temporary directory wipes them.
//   - Events in the journal would need one.
//   - The processes behind an exec stay for five minutes after its end, for
//     whoever asks how it ended; "docker exec" asks at once.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
exit_command_delay = 10
lock_type = "file"
tmp_dir = "ROOT/tmp"
volume_path = "ROOT/volumes"
[network]
network_config_dir = "ROOT/networks"
`

// The driver vfs copies, which is nothing for images of some megabytes, and
// works on every file system.
const podmanStorage = `[storage]
driver = "vfs"
graphroot = "ROOT/data"
runroot = "ROOT/run"
`

func (d *Daemon) podmanArgs(extra []string) ([]string, error) {
	for name, text := range map[string]string{"containers.conf": podmanConf, "storage.conf": podmanStorage} {
		text = strings.ReplaceAll(text, "ROOT", d.root)
		if err := os.WriteFile(filepath.Join(d.root, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write podman configuration: %w", err)
		}
	}
	// The places are also flags, so that the command lines of the service, and of
	// each container's conmon, name them: the guardian knows its processes by that.
	args := []string{"--root", filepath.Join(d.root, "data"), "--runroot", filepath.Join(d.root, "run"), "--tmpdir", filepath.Join(d.root, "tmp"), "--storage-driver", "vfs"}
	return append(append(args, extra...), "system", "service", "--time=0", d.Socket()), nil
}

// Podman runs the podman program on this daemon's containers, and returns its
// standard output. A failure ends the test.
func (d *Daemon) Podman(t testing.TB, args ...string) string {
	t.Helper()
	program, err := lookPath(podman.program)
	if err != nil {
		t.Fatal(err)
	}
	cmd := d.Docker(t.Context(), append(d.args[:8:8], args...)...)
	cmd.Path = program
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("podman %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
