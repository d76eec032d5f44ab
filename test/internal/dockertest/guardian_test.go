package dockertest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// orphanEnv makes testGuardian, run in a child, the process to be killed.
const orphanEnv = "DOCKERTEST_TEST_ORPHAN"

func TestGuardian(t *testing.T) {
	Require(t)
	testGuardian(t, docker)
}

func TestPodmanGuardian(t *testing.T) {
	RequirePodman(t)
	testGuardian(t, podman)
}

// testGuardian kills a test process in each state of its daemon, and expects
// that nothing outlives it. Run as a child, it is the process to be killed.
func testGuardian(t *testing.T, e *engine) {
	if mode := os.Getenv(orphanEnv); mode != "" {
		orphan(t, e, mode)
	}
	for _, mode := range []string{"running", "halted", "daemon-killed"} {
		t.Run(mode, func(t *testing.T) {
			test, _, _ := strings.Cut(t.Name(), "/")
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$")
			cmd.Env = append(os.Environ(), orphanEnv+"="+mode)
			cmd.Stderr = os.Stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			root, id := readOrphan(t, bufio.NewScanner(stdout))
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait() // "signal: killed"
			waitFor(t, "tree is gone", func() bool {
				_, err := os.Lstat(root)
				return os.IsNotExist(err)
			})
			checkGone(t, root, id)
		})
	}
}

func readOrphan(t *testing.T, lines *bufio.Scanner) (root, id string) {
	t.Helper()
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "orphan "); ok {
			root, id, _ = strings.Cut(rest, " ")
			return root, id
		}
	}
	t.Fatalf("child ended early: %v", lines.Err())
	return "", ""
}

// orphan makes a daemon and a container that nothing in this process cleans up,
// and waits to be killed.
func orphan(t *testing.T, e *engine, mode string) {
	var cfg Config
	if e == docker {
		cfg.Args = []string{"--live-restore"}
	}
	d, err := start(context.Background(), e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.BuildImage(t.Context(), Image{Name: testImage}); err != nil {
		t.Fatal(err)
	}
	id := d.Run(t, RunConfig{Image: testImage}.args()...)
	switch mode {
	case "halted":
		err = d.Halt(t.Context())
	case "daemon-killed":
		err = syscall.Kill(d.Pid(), syscall.SIGKILL)
		<-d.proc.done
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("orphan", d.root, id)
	select {}
}
