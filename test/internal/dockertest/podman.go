package dockertest

import (
	"fmt"
	"os"
	"path/filepath"
)

// podmanArgs returns the command line of Podman's service, which speaks Docker's API, and writes the configuration that
// keeps it apart from the machine's own Podman. Its containers go on running without it, as with --live-restore.
func (d *Daemon) podmanArgs() ([]string, error) {
	for name, text := range map[string]string{
		"containers.conf": `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc" # crun refuses hybrid cgroups
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "` + filepath.Join(d.root, "exec") + `"
`,
		"storage.conf": `[storage]
driver = "vfs"
graphroot = "` + filepath.Join(d.root, "data") + `"
runroot = "` + filepath.Join(d.root, "run") + `"
`,
	} {
		if err := os.WriteFile(filepath.Join(d.root, name), []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write Podman's configuration: %w", err)
		}
	}
	return []string{"system", "service", "--time=0", d.Socket()}, nil
}

// podmanEnviron leads Podman to that configuration.
func (d *Daemon) podmanEnviron() []string {
	return []string{
		"CONTAINERS_CONF=" + filepath.Join(d.root, "containers.conf"),
		"CONTAINERS_STORAGE_CONF=" + filepath.Join(d.root, "storage.conf"),
	}
}
