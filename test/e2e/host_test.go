//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/refresh/refreshtest"
)

// host is a claudefs with directories of its own and a token endpoint.
type host struct {
	t       testing.TB
	dir     string
	mnt     string
	config  string
	env     []string
	tokens  *refreshtest.Server // nil when another authorization server is used
	extra   func() []string     // tokens of that other server, for the residue scan
	proc    *exec.Cmd
	program string  // instead of the built binary
	log     logFile // what keeper and servers wrote
}

// hostOptions say what differs from the usual host.
type hostOptions struct {
	policy   string // name, or the text of a policy file
	args     []string
	server   refreshtest.Config
	tokenURL string // instead of a refreshtest server
	config   string // further lines of the configuration
	env      []string
	noDocker bool
	prepare  func(h *host) // runs before the mount
}

// newHost starts a claudefs and ends it, with a residue scan, when the test does.
func newHost(t testing.TB, o hostOptions) *host {
	t.Helper()
	h, policy := makeHost(t, o)
	h.start(append([]string{"--policy", policy}, o.args...)...)
	return h
}

// makeHost makes the directories and the token endpoint of a host, and starts nothing. It returns the --policy as well.
func makeHost(t testing.TB, o hostOptions) (h *host, policy string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "claudefs-host-")
	if err != nil {
		t.Fatal(err)
	}
	h = &host{t: t, dir: dir, log: logFile(filepath.Join(dir, "log")), mnt: filepath.Join(dir, "mnt"), config: filepath.Join(dir, "config.yaml")}
	t.Cleanup(func() {
		h.endAll()
		h.dropKernelKey()
		_ = os.RemoveAll(dir)
	})
	_ = os.Chmod(dir, 0o755)
	url := o.tokenURL
	if url == "" {
		h.tokens = refreshtest.Start(t, o.server)
		url = h.tokens.URL
	}
	runtimes := fmt.Sprintf("runtimes: [%q]\n", docker.Socket())
	if o.noDocker {
		runtimes = "runtimes: []\n"
	}
	h.write("config.yaml", fmt.Sprintf("state_dir: %s/state\nruntime_dir: %s/run\naudit: {file: %s/audit.jsonl}\noauth: {token_url: %q}\n%s%s",
		dir, dir, dir, url, runtimes, o.config))
	h.env = append(append(os.Environ(), "CLAUDEFS_CONFIG="+h.config, "DBUS_SESSION_BUS_ADDRESS="), o.env...)
	if o.prepare != nil {
		o.prepare(h)
	}
	policy = o.policy
	if strings.Contains(policy, "\n") {
		policy = h.write("policy.yaml", policy)
	}
	return h, policy
}

func (h *host) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// start runs "claudefs mount" in the foreground and waits for its ready line.
func (h *host) start(args ...string) {
	h.t.Helper()
	h.proc = exec.Command(cmp.Or(h.program, claudefs), append(append([]string{"mount"}, args...), h.mnt)...)
	h.proc.Env = h.env
	log, err := os.OpenFile(string(h.log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	h.proc.Stderr = log // a file: a pipe would be held open by a server that outlives its keeper
	out, err := h.proc.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.proc.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.stop)
	buf := make([]byte, 256)
	n, err := out.Read(buf)
	if !strings.HasPrefix(string(buf[:n]), "claudefs: ready: ") {
		h.t.Fatalf("mount said %q (%v)\n%s", buf[:n], err, h.log.String())
	}
}

// stop ends the daemon in order; it must end cleanly, containers bound or not.
func (h *host) stop() {
	if h.proc.ProcessState != nil {
		return
	}
	_ = h.proc.Process.Signal(syscall.SIGTERM)
	done := make(chan error, 1)
	go func() { done <- h.proc.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			h.t.Errorf("daemon ended with %v\n%s", err, h.log.String())
		}
	case <-time.After(10 * time.Second):
		_ = h.proc.Process.Kill()
		h.t.Errorf("daemon did not end within 10 s of SIGTERM\n%s", h.log.String())
		<-done
	}
	h.checkResidue()
}

// logFile is a log's path.
type logFile string

// String is its text.
func (f logFile) String() string {
	b, _ := os.ReadFile(string(f))
	return string(b)
}

// endAll ends what a test that failed left running.
func (h *host) endAll() {
	for pid := h.findProcess(); pid != 0; pid = h.findProcess() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for end := time.Now().Add(2 * time.Second); alive(pid) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
	}
	_ = syscall.Unmount(h.mnt, syscall.MNT_DETACH)
}

// run runs a claudefs command and returns its output and exit code.
func (h *host) run(args ...string) (string, int) {
	h.t.Helper()
	return h.runIn("", args...)
}

func (h *host) runIn(stdin string, args ...string) (string, int) {
	h.t.Helper()
	cmd := exec.Command(claudefs, args...)
	cmd.Env, cmd.Stdin = h.env, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// login imports a fresh login of the token endpoint as an account; expired ones have their end in the past.
func (h *host) login(account string, expired bool) refreshtest.Login {
	h.t.Helper()
	l := h.tokens.NewLogin()
	file := l
	if expired {
		file.ExpiresAt = time.Now().Add(-time.Minute)
	}
	b, err := json.Marshal(file.File())
	if err != nil {
		h.t.Fatal(err)
	}
	h.importFile(account, string(b))
	return l
}

func (h *host) importFile(account, text string) {
	h.t.Helper()
	if out, code := h.runIn(text, "import", "--account", account, "-"); code != 0 {
		h.t.Fatalf("import: exit %d: %s", code, out)
	}
}

func (h *host) status() control.Status {
	h.t.Helper()
	out, code := h.run("status", "--json")
	var s control.Status
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil {
		h.t.Fatalf("status: exit %d, %v: %s", code, err, out)
	}
	return s
}

// events returns the audit records.
func (h *host) events() []audit.Event {
	h.t.Helper()
	var out []audit.Event
	if err := audit.Read(context.Background(), filepath.Join(h.dir, "audit.jsonl"), false, func(e audit.Event, _ []byte) error {
		out = append(out, e)
		return nil
	}); err != nil {
		h.t.Fatal(err)
	}
	return out
}

// lastEvent returns the newest record with that action and tree.
func (h *host) lastEvent(a audit.Action, tree string) audit.Event {
	h.t.Helper()
	all := h.events()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Action == a && all[i].Tree == tree {
			return all[i]
		}
	}
	h.t.Fatalf("no audit record %s of tree %s", a, tree)
	return audit.Event{}
}

// path is a path below the mountpoint.
func (h *host) path(elem ...string) string { return filepath.Join(append([]string{h.mnt}, elem...)...) }
