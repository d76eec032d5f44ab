//go:build e2e

package e2e

import (
	"errors"
	"os/exec"
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
