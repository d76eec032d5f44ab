package dockertest

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestPodmanLifeCycle(t *testing.T) {
	d := NewPodman(t, Config{})
	if err := d.BuildImage(t.Context(), Image{Name: testImage, Labels: map[string]string{"a": "image's"}}); err != nil {
		t.Fatal(err)
	}
	c := d.RunContainer(t, RunConfig{Name: "life", Image: testImage, Labels: map[string]string{"b": "operator's"}})
	pid := c.Pid()
	if stdout, stderr, code := c.Exec(t.Context(), "node", "sh", "-c", "id -un; exit 7"); stdout != "node\n" || code != 7 {
		t.Errorf("Exec = %q, %q, %d", stdout, stderr, code)
	}
	if got := strings.TrimSpace(d.Podman(t, "inspect", "--format={{.Name}} {{.OCIRuntime}} {{.State.Pid}}", c.ID)); got != "life runc "+strconv.Itoa(pid) {
		t.Errorf("podman inspect = %q", got)
	}
	if got := d.Run(t, "version", "--format={{(index .Server.Components 0).Name}}"); got != "Podman Engine" {
		t.Errorf("the socket is served by %q", got)
	}

	if err := d.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := c.Pid(); got != pid {
		t.Errorf("container's pid after restart = %d, want %d: it did not live on", got, pid)
	}
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	checkGone(t, d.root, c.ID)
	if _, err := os.Stat("/proc/" + strconv.Itoa(pid)); err == nil {
		t.Errorf("process %d of the container is left", pid)
	}
}
