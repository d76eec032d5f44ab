//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/keeper"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// loadReport is what test/load prints.
type loadReport struct {
	Ops map[string]struct {
		Count  int      `json:"count"`
		Failed int      `json:"failed"`
		P50    float64  `json:"p50_ms"`
		P99    float64  `json:"p99_ms"`
		Max    float64  `json:"max_ms"`
		Errors []string `json:"errors"`
	} `json:"ops"`
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	Failed     int `json:"failed"`
	Slowest    struct {
		Op   string  `json:"op"`
		Step string  `json:"step"`
		MS   float64 `json:"ms"`
	} `json:"slowest"`
}

// underLoad runs the mixed load in five containers while do happens, and wants no failed operation, no lost
// acknowledged write and no doubled append.
func (h *host) underLoad(do func()) {
	h.t.Helper()
	var boxes []*dockertest.Container
	for i := range 5 {
		boxes = append(boxes, docker.RunContainer(h.t, dockertest.RunConfig{
			Image: image, Mounts: []string{h.tree(fmt.Sprintf("t%d", i))}, Volumes: []string{loadProgram + ":/usr/bin/load:ro"},
		}))
	}
	reports := make([]loadReport, len(boxes))
	begun := time.Now()
	var wg sync.WaitGroup
	for i, b := range boxes {
		wg.Go(func() { reports[i] = runLoad(h.t, b) })
	}
	time.Sleep(time.Second) // set-up of the load
	do()
	for _, b := range boxes {
		if _, errText, code := b.Exec(context.Background(), "root", "sh", "-c", "kill $(cat /tmp/load.pid)"); code != 0 {
			h.t.Fatalf("stop load: %s", errText)
		}
	}
	wg.Wait()
	h.judge(reports, time.Since(begun))
}

func runLoad(t testing.TB, b *dockertest.Container, args ...string) (r loadReport) {
	script := "/usr/bin/load -dir /claude -duration 10m -pause 2ms " + strings.Join(args, " ") + " & echo $! >/tmp/load.pid; wait $!"
	out, errText, code := b.Exec(context.Background(), "root", "sh", "-c", script)
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Ops) == 0 {
		t.Errorf("load: exit %d, %v: %s", code, err, errText)
	}
	return r
}

func (h *host) judge(reports []loadReport, took time.Duration) {
	h.t.Helper()
	operations, slowest := 0, reports[0].Slowest
	for i, r := range reports {
		for name, op := range r.Ops {
			operations += op.Count
			if op.Failed > 0 {
				h.t.Errorf("container %d: %s: %d of %d operations failed: %s", i, name, op.Failed, op.Count, strings.Join(op.Errors, "; "))
			}
		}
		if r.Lost > 0 || r.Duplicated > 0 {
			h.t.Errorf("container %d: %d acknowledged writes lost, %d appends doubled", i, r.Lost, r.Duplicated)
		}
		if r.Slowest.MS > slowest.MS {
			slowest = r.Slowest
		}
	}
	if h.t.Failed() {
		for line := range strings.Lines(h.log.String()) {
			if !strings.Contains(line, "reason=\"signal killed\"") && !strings.Contains(line, "level=INFO") {
				h.t.Log(line)
			}
		}
	}
	h.t.Logf("%v: %d operations; slowest %.0f ms (%s, %s)", took.Round(time.Second), operations, slowest.MS, slowest.Op, slowest.Step)
	for name, op := range reports[0].Ops {
		h.t.Logf("%-16s %7d  p50 %7.2f ms  p99 %7.2f ms  max %7.2f ms", name, op.Count, op.P50, op.P99, op.Max)
	}
}

// keeperState is what the keeper says of itself.
func (h *host) keeperState() *keeper.Status {
	h.t.Helper()
	s, err := keeper.ReadStatus(filepath.Join(h.dir, "run"))
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.log.String())
	}
	return s
}

// server is the process id of the server that serves now; it waits for one.
func (h *host) server() int {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if s := h.keeperState(); s.State == keeper.Serving && alive(s.Server) {
			return s.Server
		}
	}
	h.t.Fatalf("no server serves\n%s", h.log.String())
	return 0
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// kill ends the server without a chance to say anything.
func (h *host) kill() {
	h.t.Helper()
	if err := syscall.Kill(h.server(), syscall.SIGKILL); err != nil {
		h.t.Errorf("kill server: %v", err)
	}
}

// times reads how often something is done: the variable's value, or what CI takes the time for.
func times(t testing.TB, variable string, short int) int {
	v := os.Getenv(variable)
	if v == "" {
		return short
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// rotating forgives a refresh token that comes again at once, as real servers do: a kill can lose an answer.
var rotating = refreshtest.Config{Lifetime: 10 * time.Second, RevokeFamily: true, KeepOld: true, Grace: time.Minute}

// SIGKILLs of the server at random moments under the mixed load: nothing in the containers notices more than a delay.
// KILLS says how many.
func TestServerKills(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", server: rotating})
	h.login("default", false)
	n := times(t, "KILLS", 100)
	h.underLoad(func() {
		for range n {
			time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond)
			h.kill()
		}
		h.server()
	})
	if got := h.keeperState().Restarts; got < n {
		t.Errorf("%d restarts after %d kills", got, n)
	}
	await(t, "keeper lets go of files that nobody has open", func() bool { return len(h.keptFiles()) == 0 })
	if h.tokens.Lost() > 0 {
		t.Error("the login is lost")
	}
	t.Logf("%d kills, %d rotations, at most %d descriptors kept", n, h.tokens.Grants(), h.mostHeld())
}

// keptFiles are the deleted files of which the keeper has descriptors.
func (h *host) keptFiles() (names []string) {
	h.t.Helper()
	fds := fmt.Sprintf("/proc/%d/fd", h.keeperState().PID)
	all, err := os.ReadDir(fds)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range all {
		if to, _ := os.Readlink(filepath.Join(fds, e.Name())); strings.HasPrefix(to, h.dir) && strings.HasSuffix(to, "(deleted)") {
			names = append(names, to)
		}
	}
	return names
}

// A deleted file is there for each of its handles, whichever server gave them and whichever of them is used and closed
// between two kills; with the last one it is gone.
func TestDeletedFileThroughKills(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	b := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	// The container's mount, reached from here: a shell in the container would use every handle whenever it forks.
	path := fmt.Sprintf("/proc/%d/root/claude/deleted", b.Pid())
	writer := openFile(t, path, unix.O_CREAT|unix.O_WRONLY)
	reader, mapped := openFile(t, path, unix.O_RDONLY), openFile(t, path, unix.O_RDONLY)
	write(t, writer, "a")
	memory, err := unix.Mmap(mapped, 0, 1, unix.PROT_READ, unix.MAP_SHARED)
	if err := errors.Join(err, unix.Close(mapped), unix.Unlink(path)); err != nil {
		t.Fatal(err)
	}
	h.crash()
	write(t, writer, "b")
	if err := unix.Close(writer); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond) // close(2) does not wait for the RELEASE
	h.crash()
	got := make([]byte, 10)
	n, err := unix.Pread(reader, got, 0)
	if err := errors.Join(err, unix.Close(reader)); err != nil || string(got[:max(n, 0)]) != "ab" {
		t.Errorf("read %q, %v", got[:max(n, 0)], err)
	}
	if kept := h.keptFiles(); len(kept) != 1 {
		t.Errorf("one handle is left, and keeper holds %q", kept)
	}
	h.crash()
	if err := unix.Munmap(memory); err != nil { // a RELEASE of a handle that this server never heard of
		t.Error(err)
	}
	await(t, "keeper lets go of the file", func() bool { return len(h.keptFiles()) == 0 })
}

// openFile opens a file without the runtime's poller, which would use it.
func openFile(t *testing.T, path string, flags int) int {
	t.Helper()
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatalf("open %s: %v", path, err)
	}
	return fd
}

func write(t *testing.T, fd int, text string) {
	t.Helper()
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Errorf("write: %v", err)
	}
}

// mostHeld is how many descriptors the keeper held at most when a server ended.
func (h *host) mostHeld() int {
	most := 0
	for _, m := range heldLog.FindAllStringSubmatch(h.log.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		most = max(most, n)
	}
	return most
}

var heldLog = regexp.MustCompile(`held=(\d+)`)

var loadProgram string // the built test/load

func buildLoad(ctx context.Context, dir string) error {
	loadProgram = filepath.Join(dir, "load")
	return build(ctx, "../..", loadProgram, "./test/load")
}
