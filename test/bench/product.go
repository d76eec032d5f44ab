package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/claudefs/claudefs/internal/keeper"
	"github.com/claudefs/claudefs/refresh/refreshtest"
)

// host is a running claudefs with one imported login.
type host struct {
	dir, mnt  string
	proc      *exec.Cmd
	firstRead time.Duration // from the start of "claudefs mount" to the end of the first read
}

// claudefs imports a login of a token endpoint on loopback and mounts.
func (b *bench) claudefs(binary, name string, args ...string) (*host, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	tokens := refreshtest.New(refreshtest.Config{})
	go func() { _ = http.Serve(l, tokens) }()
	b.undo = append(b.undo, l.Close)
	h := &host{dir: filepath.Join(b.dir, name), mnt: filepath.Join(b.dir, name+"-mnt")}
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		return nil, err
	}
	config := filepath.Join(h.dir, "config.yaml")
	text := fmt.Sprintf("state_dir: %[1]s/state\nruntime_dir: %[1]s/run\naudit: {file: %[1]s/audit.jsonl}\nruntimes: []\noauth: {token_url: \"http://%[2]s/v1/oauth/token\"}\n", h.dir, l.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	env := append(os.Environ(), "CLAUDEFS_CONFIG="+config, "DBUS_SESSION_BUS_ADDRESS=")
	file, err := json.Marshal(tokens.NewLogin().File())
	if err != nil {
		return nil, err
	}
	imp := exec.Command(binary, "import", "-")
	imp.Env, imp.Stdin = env, bytes.NewReader(file)
	if out, err := imp.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("import: %w: %s", err, out)
	}
	return h, h.mount(b, binary, env, args)
}

func (h *host) mount(b *bench, binary string, env, args []string) error {
	h.proc = exec.Command(binary, append(append([]string{"mount", "--log-level", "error", "--policy", "shared"}, args...), h.mnt)...)
	h.proc.Env, h.proc.Stderr = env, os.Stderr
	out, err := h.proc.StdoutPipe()
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := h.proc.Start(); err != nil {
		return err
	}
	b.undo = append(b.undo, func() error {
		err := h.proc.Process.Signal(syscall.SIGTERM)
		return errors.Join(err, h.proc.Wait())
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "claudefs: ready") {
		return fmt.Errorf("mount said %q: %w", line, err)
	}
	if _, err := h.target("first").read(1, 1); err != nil {
		return err
	}
	h.firstRead = time.Since(begun)
	return nil
}

// target reads the credential of tree web from a container: namespaces of its own in which the tree is bound and the
// mount itself is gone.
func (h *host) target(name string) target {
	place := filepath.Join(h.dir, "place")
	_ = os.Mkdir(place, 0o755)
	return target{name: name, file: filepath.Join(place, ".credentials.json"), wrapper: []string{
		"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "sh", "-c",
		`mount --bind "$1/web" "$2" && umount -l "$1" && shift 2 && exec "$@"`, "bench", h.mnt, place,
	}}
}

// report prints what is not a latency of one read.
func (h *host) report(count, reads int) error {
	idle, err := h.rss()
	if err != nil {
		return err
	}
	one, err := h.target("one tree").read(1, count)
	if err != nil {
		return err
	}
	if _, err := h.target("many").read(4, reads); err != nil {
		return err
	}
	after, err := h.rss()
	if err != nil {
		return err
	}
	for i := range 1000 {
		if _, err := os.Stat(filepath.Join(h.mnt, fmt.Sprintf("t%03d", i), ".credentials.json")); err != nil {
			return err
		}
	}
	thousand, err := h.target("thousand trees").read(1, count)
	if err != nil {
		return err
	}
	full, err := h.rss()
	if err != nil {
		return err
	}
	fmt.Printf("\n| | |\n|---|---|\n")
	fmt.Printf("| from `claudefs mount` to the end of the first read in a container | %d ms |\n", h.firstRead.Milliseconds())
	fmt.Printf("| daemon RSS after the tables above | %d MiB |\n", idle)
	fmt.Printf("| after %d more reads | %d MiB |\n", reads, after)
	fmt.Printf("| after 1,000 trees were looked up | %d MiB |\n", full)
	fmt.Printf("| read with 1,001 trees known against 1 tree, p50 | %.2f |\n", thousand.P50.Seconds()/one.P50.Seconds())
	return nil
}

// rss is the daemon's resident memory in MiB.
func (h *host) rss() (int, error) {
	k, err := keeper.ReadStatus(filepath.Join(h.dir, "run"))
	if err != nil {
		return 0, err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.Server))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kb); n == 1 {
			return kb / 1024, nil
		}
	}
	return 0, errors.New("no VmRSS line")
}
