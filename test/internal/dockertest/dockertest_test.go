package dockertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const testImage = "dockertest:1"

// testDaemon returns a daemon that has testImage.
func testDaemon(t *testing.T, cfg Config, img Image) *Daemon {
	t.Helper()
	d := New(t, cfg)
	img.Name = testImage
	if err := d.BuildImage(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	return d
}

// waitFor polls until the condition holds.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(pollInterval)
	}
}

// procFiles returns those /proc/<pid>/name that contain text, of processes
// other than this one.
func procFiles(t *testing.T, name, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil && bytes.Contains(data, []byte(text)) && !strings.HasPrefix(file, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			found = append(found, file)
		}
	}
	return found
}

// checkGone fails the test if anything is left of a daemon and its containers.
func checkGone(t *testing.T, root string, containerIDs ...string) {
	t.Helper()
	if _, err := os.Lstat(root); !os.IsNotExist(err) {
		t.Errorf("tree is left: %s (%v)", root, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), root+"/") {
		t.Errorf("mounts are left below %s:\n%s", root, mounts)
	}
	if left := procFiles(t, "cmdline", root+"/"); len(left) != 0 {
		t.Errorf("processes are left: %v", left)
	}
	for _, id := range containerIDs {
		if left := procFiles(t, "cgroup", id); len(left) != 0 {
			t.Errorf("processes of container %s are left: %v", id, left)
		}
		for _, pattern := range []string{
			"/sys/fs/cgroup/docker/", "/sys/fs/cgroup/*/docker/",
			"/sys/fs/cgroup/libpod_parent/libpod-", "/sys/fs/cgroup/*/libpod_parent/libpod-",
		} {
			if left, _ := filepath.Glob(pattern + id); len(left) != 0 {
				t.Errorf("cgroups are left: %v", left)
			}
		}
	}
}

func TestLifeCycle(t *testing.T) {
	d := testDaemon(t, Config{Args: []string{"--live-restore"}}, Image{})
	c := d.RunContainer(t, RunConfig{Name: "life", Image: testImage, Labels: map[string]string{"a": "b"}})
	pid := c.Pid()

	if err := d.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Pid(); got != pid {
		t.Errorf("container's pid after restart = %d, want %d: it did not live on", got, pid)
	}
	stdout, stderr, code := c.Exec(t.Context(), "node", "sh", "-c", "id -un; echo to-stderr >&2; exit 7")
	if stdout != "node\n" || stderr != "to-stderr\n" || code != 7 {
		t.Errorf("Exec = %q, %q, %d", stdout, stderr, code)
	}
	if got := d.Run(t, "inspect", "--format={{.Config.Labels.a}} {{.HostConfig.NetworkMode}}", c.ID); got != "b none" {
		t.Errorf("label and network = %q, want %q", got, "b none")
	}

	if err := d.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Halt(t.Context()); err == nil {
		t.Error("Halt of a halted daemon succeeded")
	}
	if _, err := d.output(t.Context(), "ps"); err == nil {
		t.Error("docker ps succeeded while the daemon is halted")
	}
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err != nil {
		t.Errorf("container ended with its daemon: %v", err)
	}
	if err := d.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, d.root, c.ID)
}

// TestStopWhileHalted removes containers that have no daemon any more.
func TestStopWhileHalted(t *testing.T) {
	d := testDaemon(t, Config{Args: []string{"--live-restore"}}, Image{})
	c := d.RunContainer(t, RunConfig{Image: testImage})
	if err := d.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, d.root, c.ID)
}

func TestStartReportsLog(t *testing.T) {
	Require(t)
	dir := t.TempDir()
	_, err := Start(t.Context(), Config{Args: []string{"--no-such-flag"}, Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
		t.Errorf("Start with a bad flag: %v, want dockerd's own words", err)
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestImage(t *testing.T) {
	const program = "/usr/bin/env" // any dynamically linked one
	if dynamic, err := isDynamic(program); err != nil || !dynamic {
		t.Skipf("%s is not dynamically linked: %v", program, err)
	}
	label := `quote " dollar $HOME back\slash and space`
	d := testDaemon(t, Config{}, Image{
		Labels:   map[string]string{"claudefs.identity": label},
		Binaries: []string{program},
		Files:    map[string]string{"/opt/tool/hello": "#!/bin/sh\necho hello $1\n"},
	})
	if got := d.Run(t, "image", "inspect", `--format={{index .Config.Labels "claudefs.identity"}}`, testImage); got != label {
		t.Errorf("label = %q, want %q", got, label)
	}
	t.Logf("image has %s bytes", d.Run(t, "image", "inspect", "--format={{.Size}}", testImage))

	c := d.RunContainer(t, RunConfig{Image: testImage, User: "node", Volumes: []string{program + ":/opt/host-program:ro"}})
	for _, test := range []struct{ user, command, want string }{
		{"", "/opt/tool/hello world", "hello world\n"},
		{"", "/opt/host-program echo dynamic", "dynamic\n"},
		{"", "id", "uid=1000(node) gid=1000(node) groups=1000(node)\n"},
		{"root", "id -u", "0\n"},
		{"", "echo $HOME $PATH", "/home/node " + ImagePath + "\n"},
		{"", "touch $HOME/f /tmp/f && stat -c %U $HOME/f", "node\n"},
	} {
		stdout, stderr, code := c.Exec(t.Context(), test.user, "sh", "-c", test.command)
		if stdout != test.want || code != 0 {
			t.Errorf("%s: %q, stderr %q, status %d, want %q", test.command, stdout, stderr, code, test.want)
		}
	}
}

func TestRunConfigArgs(t *testing.T) {
	cfg := RunConfig{
		Name: "n", Image: "i", User: "u", CapAdd: []string{"C"}, Args: []string{"--read-only"},
		Mounts: []string{"type=tmpfs,dst=/x"}, Labels: map[string]string{"b": "2", "a": "1"}, Cmd: []string{"true"},
	}
	got := strings.Join(cfg.args(), " ")
	want := "run --detach --pull=never --stop-signal=SIGKILL --network=none --name=n --user=u " +
		"--mount=type=tmpfs,dst=/x --cap-add=C --label=a=1 --label=b=2 --read-only i true"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
