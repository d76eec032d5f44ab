package dockertest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// cgroupPaths returns the paths in /proc/<pid>/cgroup by hierarchy.
func cgroupPaths(t *testing.T, pid int) map[string]string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		paths[fields[1]] = fields[2]
	}
	return paths
}

// privateCgroups reports whether containers get a cgroup namespace of their own
// unless told otherwise, as they do with cgroup v2.
func privateCgroups(t *testing.T, d *Daemon) bool {
	t.Helper()
	return d.Run(t, "info", "--format={{.CgroupVersion}}") == "2"
}

// runAttack starts the attack, which ends in a long sleep, and returns the pid
// that the sleep has on this machine.
func runAttack(t *testing.T, attacker *Container, argv []string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var stderr strings.Builder
	cmd := attacker.d.Docker(ctx, append([]string{"exec", attacker.ID}, argv...)...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { attacker.Remove(); _ = cmd.Wait(); t.Logf("attacker said: %s", stderr.String()) })
	var found int
	waitFor(t, "attack reaches its command", func() bool {
		for _, pid := range attacker.Pids() {
			cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err == nil && string(cmdline) == "sleep\x0086400\x00" {
				found = pid
			}
		}
		return found != 0
	})
	return found
}

func TestAttacks(t *testing.T) {
	d := testDaemon(t, Config{}, Image{})
	victim := d.RunContainer(t, RunConfig{Name: "victim", Image: testImage})
	victimPaths := cgroupPaths(t, victim.Pid())
	if privateCgroups(t, d) {
		t.Skip("the forged paths below are those of cgroup v1")
	}

	t.Run("forge", func(t *testing.T) {
		attacker := d.RunContainer(t, Attacker(RunConfig{Image: testImage}))
		pid := runAttack(t, attacker, AttackArgv(AttackForge, victim.ID, "sleep", "86400"))
		for name, got := range cgroupPaths(t, pid) {
			if got != victimPaths[name] || !strings.HasSuffix(got, "/docker/"+victim.ID) {
				t.Errorf("%s: %s, want the victim's %s", name, got, victimPaths[name])
			}
		}
	})
	for _, namespace := range []string{"host", "private"} {
		t.Run("nest/"+namespace, func(t *testing.T) {
			attacker := d.RunContainer(t, Attacker(RunConfig{Image: testImage, Args: []string{"--cgroupns=" + namespace}}))
			pid := runAttack(t, attacker, AttackArgv(AttackNest, victim.ID, "sleep", "86400"))
			for name, got := range cgroupPaths(t, pid) {
				if !strings.HasSuffix(got, "/docker/"+attacker.ID+"/docker/"+victim.ID) {
					t.Errorf("%s: %s, want /docker/<attacker>/docker/<victim>", name, got)
				}
			}
		})
	}
	t.Run("forge/private", func(t *testing.T) {
		attacker := d.RunContainer(t, Attacker(RunConfig{Image: testImage, Args: []string{"--cgroupns=private"}}))
		wantRefused(t, attacker, AttackForge, victim.ID)
	})
	t.Run("default capabilities", func(t *testing.T) {
		attacker := d.RunContainer(t, RunConfig{Image: testImage})
		wantRefused(t, attacker, AttackForge, victim.ID)
		wantRefused(t, attacker, AttackNest, victim.ID)
	})
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, d.root, victim.ID)
}

func wantRefused(t *testing.T, attacker *Container, script, victimID string) {
	t.Helper()
	_, stderr, code := attacker.Exec(t.Context(), "root", AttackArgv(script, victimID, "true")...)
	if code != AttackFailed || !strings.Contains(stderr, "moved in 0 of") {
		t.Errorf("attack: status %d, %s", code, stderr)
	}
}
