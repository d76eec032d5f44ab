//go:build e2e

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

func boolCode(err error) int {
	if err != nil {
		return 1
	}
	return 0
}

// enter runs a command in a container's namespaces and cgroups without asking dockerd, as "docker exec" would.
func enter(t *testing.T, pid int, argv ...string) (out string, code int) {
	t.Helper()
	// The shell moves itself into the container's cgroup in every hierarchy, then into its namespaces.
	script := `for l in $(cat /proc/$0/cgroup); do
		c=${l#*:}; c=${c%%:*}; p=${l#*:*:}; c=${c#name=}
		if [ -z "$c" ]; then d=/sys/fs/cgroup/unified; [ -d $d ] || d=/sys/fs/cgroup; else d=/sys/fs/cgroup/$c; fi
		[ "$p" = / ] || echo $$ > $d$p/cgroup.procs || exit 98
	done
	exec nsenter -t $0 -m -u -i -n -p -r "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, itoa(pid)}, argv...)...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() == 98 {
		t.Fatalf("could not move into the container's cgroup: %s", b)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// shed moves processes out of every cgroup that names their container, as root in a container with SYS_ADMIN can.
func shed(t *testing.T, pids []int) {
	t.Helper()
	procs, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(procs) == 0 {
		procs = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, p := range procs {
		for _, pid := range pids {
			if err := os.WriteFile(p, []byte(itoa(pid)), 0); err != nil {
				t.Fatalf("move %d to %s: %v", pid, p, err)
			}
		}
	}
}

// enterNamespaces runs a command in a container's namespaces, but in the host's root cgroups.
func enterNamespaces(t *testing.T, pid int, argv ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"-t", itoa(pid), "-m", "-u", "-i", "-n", "-p", "-r", "--"}, argv...)...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}
