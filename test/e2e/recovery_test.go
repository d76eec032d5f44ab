//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/keeper"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// reader reads a credential in a container, and appends to a file, all the time.
type reader struct {
	box    *dockertest.Container
	report loadReport
	done   sync.WaitGroup
}

// reading starts a reader in a container of its own.
func (h *host) reading(tree string) *reader {
	h.t.Helper()
	r := &reader{box: docker.RunContainer(h.t, dockertest.RunConfig{
		Image: image, Mounts: []string{h.tree(tree)}, Volumes: []string{loadProgram + ":/usr/bin/load:ro"},
	})}
	r.done.Go(func() { r.report = runLoad(h.t, r.box, "-only", "cred-read,append-fsync,cwd") })
	h.t.Cleanup(r.stop)
	time.Sleep(300 * time.Millisecond) // set-up of the load
	return r
}

func (r *reader) stop() {
	_, _, _ = r.box.Exec(context.Background(), "root", "sh", "-c", "kill $(cat /tmp/load.pid)")
	r.done.Wait()
}

// end stops the reader and wants no failure.
func (r *reader) end(t testing.TB) {
	t.Helper()
	r.stop()
	reads := r.report.Ops["cred-read"]
	t.Logf("%d reads and other operations, %d failed, slowest %.0f ms (%s)", reads.Count, r.report.Failed, r.report.Slowest.MS, r.report.Slowest.Op)
	if r.report.Failed+r.report.Lost+r.report.Duplicated > 0 || reads.Count == 0 {
		t.Errorf("%d operations failed, %d writes lost, %d doubled: %q", r.report.Failed, r.report.Lost, r.report.Duplicated, reads.Errors)
	}
}

// killBoth ends keeper and server at once: each would start the other again.
func (h *host) killBoth() {
	h.t.Helper()
	server, k := h.server(), h.keeperState().PID
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range []int{k, server} {
			if err := syscall.Kill(pid, sig); err != nil {
				h.t.Errorf("kill: %v", err)
			}
		}
	}
	_ = h.proc.Wait()
	for end := time.Now().Add(5 * time.Second); alive(server) && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
}

// crash ends the server and waits for the next one.
func (h *host) crash() {
	h.t.Helper()
	old := h.server()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		h.t.Errorf("kill server: %v", err)
	}
	h.awaitServer(old)
}

// awaitServer waits until another process than old serves.
func (h *host) awaitServer(old int) int {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if s := h.server(); s != old {
			return s
		}
	}
	h.t.Fatalf("process %d still serves\n%s", old, h.log.String())
	return 0
}

// The keeper's death: the server starts another one, which adopts it, and both survive what follows.
func TestKeeperKilled(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	r := h.reading("web")
	for range 5 {
		old := h.keeperState().PID
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if old == h.proc.Process.Pid {
			_ = h.proc.Wait()
		}
		for end := time.Now().Add(10 * time.Second); h.keeperState().PID == old; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no other keeper\n%s", h.log.String())
			}
		}
		h.crash() // the new keeper starts the server again
	}
	r.end(t)
	if out, code := h.run("unmount"); code != 0 {
		t.Errorf("unmount: exit %d: %s", code, out)
	}
	if pid := h.findProcess(); pid != 0 {
		t.Errorf("process %d is left", pid)
	}
}

// findProcess finds a process that runs for this host's mountpoint.
func (h *host) findProcess() int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if b, err := os.ReadFile(d + "/cmdline"); err == nil && strings.Contains(string(b), h.mnt) {
			pid, _ := strconv.Atoi(filepath.Base(d))
			return pid
		}
	}
	return 0
}

// A server that is killed while it takes over, again and again.
func TestKilledDuringTakeover(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	r := h.reading("web")
	for range 10 {
		h.kill()
		for range 2 {
			// The next one, before it has said that it serves.
			if pid := h.starting(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		h.server()
	}
	r.end(t)
	if s := h.keeperState(); s.Restarts < 20 {
		t.Errorf("only %d restarts", s.Restarts)
	}
}

// starting waits for a server that does not serve yet.
func (h *host) starting() int {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if s := h.keeperState(); s.State == keeper.Starting && alive(s.Server) {
			return s.Server
		}
	}
	return 0
}

// Kills while a grant is out: the login is not lost, and at most one more request is made for each kill.
func TestKilledDuringGrant(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", server: refreshtest.Config{RevokeFamily: true, KeepOld: true, Grace: time.Minute}})
	h.login("default", false)
	for i := range 8 {
		h.tokens.SetFault(refreshtest.Fault{Delay: 150 * time.Millisecond})
		before := len(h.tokens.Requests())
		go func() { _, _ = h.run("refresh", "--force") }()
		for end := time.Now().Add(5 * time.Second); len(h.tokens.Requests()) == before && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(i*25) * time.Millisecond) // before, while and after the answer is written down
		h.crash()
		h.tokens.SetFault(refreshtest.Fault{})
		if out, code := h.run("refresh", "--force"); code != 0 {
			t.Errorf("kill %d: refresh: exit %d: %s", i, code, out)
		}
	}
	if h.tokens.Lost() > 0 {
		t.Error("the login is lost")
	}
	if a := h.status().Accounts[0]; a.State != "valid" {
		t.Errorf("account is %s: %s", a.State, a.Why)
	}
}

// A server that is stopped while requests wait is replaced.
func TestHungServer(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", config: "keeper: {watchdog: 1s}\n"})
	h.login("default", false)
	r := h.reading("web")
	for range 2 {
		old := h.server()
		if err := syscall.Kill(old, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		h.awaitServer(old)
	}
	r.end(t)
	if s := h.keeperState(); !strings.Contains(s.LastEnd, "did not answer") {
		t.Errorf("last end: %q", s.LastEnd)
	}
}

// The kernel kills the server for memory.
func TestOutOfMemory(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	r := h.reading("web")
	for range 3 {
		old := h.server()
		oomKill(t, old)
		h.awaitServer(old)
	}
	r.end(t)
}

// oomKill has the kernel end a process in a memory cgroup that is too small for it.
func oomKill(t *testing.T, pid int) {
	t.Helper()
	root, limit := "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	if _, err := os.Stat(root); err != nil {
		root, limit = "/sys/fs/cgroup", "memory.max"
	}
	group := filepath.Join(root, fmt.Sprintf("claudefs-oom-%d", pid))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	err := errors.Join(
		os.WriteFile(filepath.Join(group, "memory.swappiness"), []byte("0"), 0o644),
		// Before the process: a limit that its locked memory exceeds already cannot be set on cgroup v1.
		os.WriteFile(filepath.Join(group, limit), []byte("1000000"), 0o644),
		os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644),
	)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// A policy file that became bad does not end the service when the server crashes: the policy before it goes on.
func TestCrashWithBadPolicy(t *testing.T) {
	h := newHost(t, hostOptions{policy: openPolicy})
	h.login("default", false)
	r := h.reading("web")
	h.write("policy.yaml", "version: 1\nrules: nonsense\n")
	for range 2 {
		h.crash()
		if s := h.status().InForce; s.Rules != 1 || !strings.Contains(s.Error, "policy.yaml:2:") {
			t.Errorf("status: %+v", s)
		}
	}
	if out, code := h.run("upgrade"); code != 1 || !strings.Contains(out, "policy.yaml:2:") {
		t.Errorf("upgrade: exit %d: %s", code, out)
	}
	h.replacePolicy(openPolicy)
	await(t, "the file is in force again", func() bool { return h.status().InForce.Error == "" })
	r.end(t)
}

// A server that cannot start: requests wait a moment, then fail at once and not for ever; status says why; the mount is
// well again as soon as the cause is gone.
func TestCrashLoop(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	b := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	log := filepath.Join(h.dir, "audit.jsonl")
	if err := errors.Join(os.Rename(log, log+".saved"), os.Mkdir(log, 0o700)); err != nil {
		t.Fatal(err)
	}
	h.kill()
	if out, errText, code := b.Exec(context.Background(), "root", "cat", "/claude/.credentials.json"); code == 0 || !strings.Contains(errText, "Input/output error") {
		t.Errorf("read in the crash loop: exit %d %s %s", code, out, errText)
	}
	begun := time.Now()
	if _, errText, code := b.Exec(context.Background(), "root", "cat", "/claude/.credentials.json"); code == 0 || time.Since(begun) > 3*time.Second {
		t.Errorf("second read: exit %d after %v: %s", code, time.Since(begun), errText)
	}
	if s := h.keeperState(); s.State != keeper.Failing {
		t.Errorf("keeper says %s", s.State)
	}
	out, code := h.run("status")
	if code != 7 || !strings.Contains(out, "audit.jsonl") || !strings.Contains(out, "EIO") {
		t.Errorf("status: exit %d: %s", code, out)
	}
	if err := errors.Join(os.Remove(log), os.Rename(log+".saved", log)); err != nil {
		t.Fatal(err)
	}
	h.server()
	if _, errText, code := b.Exec(context.Background(), "root", cat...); code != 0 {
		t.Errorf("after the repair: exit %d: %s", code, errText)
	}
}

// After a crash the vault is open again without its passphrase; after "vault lock" and a crash it stays locked, and a
// key that waited too long is gone.
func TestUnlockSurvives(t *testing.T) {
	o := hostOptions{policy: "shared", args: []string{"--vault", "passphrase"}, config: "keeper: {key_timeout: 2s}\n"}
	var file string
	o.prepare = func(h *host) {
		file = h.write("passphrase", "correct horse battery staple\n")
		h.env = append(h.env, "CLAUDEFS_PASSPHRASE_FILE="+file)
	}
	h := newHost(t, o)
	h.login("default", false)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	crash := func(wantLocked bool, why string) {
		t.Helper()
		h.crash()
		if got := h.status().Vault.Locked; got != wantLocked {
			t.Errorf("%s: locked is %t", why, got)
		}
	}
	crash(false, "after a crash")
	if out, code := h.run("upgrade"); code != 0 {
		t.Errorf("upgrade: exit %d: %s", code, out)
	}
	if h.status().Vault.Locked {
		t.Error("after an upgrade: locked")
	}
	crash(false, "after an upgrade and a crash")
	if out, code := h.run("vault", "lock"); code != 0 {
		t.Fatalf("vault lock: exit %d: %s", code, out)
	}
	crash(true, "after vault lock")
	h.write("passphrase", "correct horse battery staple\n")
	if out, code := h.run("vault", "unlock"); code != 0 {
		t.Fatalf("vault unlock: exit %d: %s", code, out)
	}
	_ = os.Remove(file)
	old := h.server()
	_ = syscall.Kill(h.keeperState().PID, syscall.SIGSTOP)
	_ = syscall.Kill(old, syscall.SIGKILL)
	time.Sleep(3 * time.Second) // longer than key_timeout
	_ = syscall.Kill(h.keeperState().PID, syscall.SIGCONT)
	h.awaitServer(old)
	if !h.status().Vault.Locked {
		t.Error("a key that waited longer than key_timeout opened the vault")
	}
}

// Real sessions of the client through kills and upgrades: every prompt is answered.
func TestClientsThroughKills(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated", server: refreshtest.Config{RevokeFamily: true, Grace: time.Minute}})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	kills, upgrades := times(t, "CLIENT_KILLS", 40), times(t, "CLIENT_UPGRADES", 10)
	var answered, failed atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range 4 {
		tree := fmt.Sprintf("t%d", i)
		h.login(tree, false)
		s := a.run(dockertest.RunConfig{Mounts: []string{h.tree(tree)}}).session()
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				pctx, stop := context.WithTimeout(context.Background(), time.Minute)
				r, err := s.Prompt(pctx, fmt.Sprintf("prompt %d", n))
				stop()
				if err != nil || r.IsError {
					failed.Add(1)
					t.Errorf("%s, prompt %d: %v %+v", tree, n, err, r)
					return
				}
				answered.Add(1)
			}
		})
	}
	for i := range kills {
		time.Sleep(300 * time.Millisecond)
		h.kill()
		if i%(kills/upgrades) == 0 {
			if out, code := h.run("upgrade"); code != 0 {
				t.Errorf("upgrade: exit %d: %s", code, out)
			}
		}
		if i%10 == 5 { // a rotation in between, which ends the old token
			if out, code := h.run("refresh", "--account", fmt.Sprintf("t%d", i%4), "--force"); code != 0 {
				t.Logf("refresh: exit %d: %s", code, out)
			}
		}
	}
	cancel()
	wg.Wait()
	checkQuiet(t, h, a)
	t.Logf("%d kills, %d upgrades: %d prompts answered, %d failed", kills, upgrades, answered.Load(), failed.Load())
	if answered.Load() < 20 {
		t.Errorf("only %d prompts were answered", answered.Load())
	}
}

// Nothing secret can be read in the keeper: not by another process of its uid, and by root neither in its memory nor
// through its descriptors.
func TestKeeperHoldsNoSecret(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	h.login("default", false)
	b := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	if _, errText, code := b.Exec(context.Background(), "root", "sh", "-c",
		"sleep 60 <'/claude/.credentials.json' & printf '{\"claudeAiOauth\":{\"accessToken\":\"sk-ant-oat01-half-written\"' >/claude/.credentials.json.tmp.12345678"); code != 0 {
		t.Fatal(errText)
	}
	pid := h.keeperState().PID
	secrets := append(h.tokens.EveryToken(), "sk-ant-oat01-half-written")
	if n := scanMemory(t, pid, secrets); n > 0 {
		t.Errorf("%d secrets in the keeper's memory, as root", n)
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sealed := false
	for _, e := range entries {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		if strings.Contains(target, "secretmem") {
			sealed = true
			if f, err := os.Open(filepath.Join(dir, e.Name())); err == nil {
				t.Error("root can open the sealed memory by its descriptor's path")
				_ = f.Close()
			}
		}
		if strings.Contains(target, "claudefs-ledger") {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if countSecrets(b, secrets) > 0 {
				t.Error("a secret is in the ledger")
			}
		}
	}
	if !sealed {
		t.Error("the keeper holds no sealed memory")
	}
	b2, _ := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	_ = b2
	if d := dumpable(t, pid); d {
		t.Error("the keeper can be dumped and traced by its own uid")
	}
	// The server keeps such things sealed too: in clear they are in its memory only while they are worked on.
	if out, code := h.run("status"); code != 0 {
		t.Errorf("status: exit %d: %s", code, out)
	}
}

// dumpable reports whether a process leaves its memory to others of its uid: then /proc/PID belongs to that uid and not
// to root. For a keeper that is root's the owner is root either way, so its own word is asked too.
func dumpable(t *testing.T, pid int) bool {
	t.Helper()
	// An unprivileged process of the keeper's uid: root without capabilities.
	cmd := dropped("cat", fmt.Sprintf("/proc/%d/environ", pid))
	out, err := cmd.CombinedOutput()
	return err == nil || !strings.Contains(string(out), "Permission denied")
}

// scanMemory looks for secrets in all that root can read of a process's memory.
func scanMemory(t *testing.T, pid int, secrets []string) int {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	found, read := 0, 0
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x", &from, &to); n != 2 || to-from > 256<<20 {
			continue
		}
		buf := make([]byte, to-from)
		n, _ := unix.Pread(int(mem.Fd()), buf, int64(from))
		read += max(n, 0)
		found += countSecrets(buf[:max(n, 0)], secrets)
	}
	if read == 0 {
		t.Error("nothing of the memory could be read: the test shows nothing")
	}
	return found
}

func countSecrets(b []byte, secrets []string) (n int) {
	text := string(b)
	for _, s := range secrets {
		n += strings.Count(text, s)
	}
	return n
}

// Without a keeper the mount serves as well, only not beyond its process: files are opened and closed again and again.
func TestWithoutKeeper(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", args: []string{"--keeper", "none"}})
	h.login("default", false)
	b := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
	const script = "cd /claude; for i in 1 2 3 4 5; do echo $i >>f; cat f >/dev/null || exit 1; done; exec 3<f; rm f; cat <&3"
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if out, errText, code := b.Exec(ctx, "root", "sh", "-c", script); code != 0 || out != "1\n2\n3\n4\n5\n" {
		t.Errorf("exit %d: %q %s", code, out, errText)
	}
	if out, errText, code := b.Exec(ctx, "root", cat...); code != 0 {
		t.Errorf("credential: exit %d: %s %s", code, out, errText)
	}
	if log := h.log.String(); strings.Contains(log, "panicked") {
		t.Errorf("the log says:\n%s", log)
	}
}
