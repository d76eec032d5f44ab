//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// shippedUnit is the unit that the tests run, and whose program and directories they replace.
const shippedUnit = "../../dist/systemd/claudefs.service"

// service is a host whose server is a service of a private systemd.
type service struct {
	*host
	dir    string // systemd's
	stdin  io.Closer
	script *exec.Cmd
}

// newService starts systemd and the shipped unit in it, and ends both when the test does.
func newService(t *testing.T, o hostOptions) *service {
	t.Helper()
	h, _ := makeHost(t, o)
	h.mnt = filepath.Join(h.dir, "run", "mnt") // as the unit has it: no argument says so
	s := &service{host: h}
	s.startSystemd()
	s.install(s.adapt(shippedUnit))
	s.must("start", "claudefs")
	return s
}

// startSystemd runs testdata/private-systemd.sh, which cleans up after its standard input ends, this process's death
// included.
func (s *service) startSystemd() {
	s.t.Helper()
	var err error
	if s.dir, err = os.MkdirTemp("", "claudefs-sd-"); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	log, err := os.Create(filepath.Join(s.host.dir, "private-systemd.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.script = exec.Command("bash", "testdata/private-systemd.sh", s.dir, s.mnt)
	s.script.Stderr = log
	in, err := s.script.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := s.script.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.script.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.stdin = in
	s.t.Cleanup(s.endSystemd)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		b, _ := os.ReadFile(log.Name())
		s.t.Fatalf("private systemd said %q (%v)\n%s", line, err, b)
	}
}

func (s *service) endSystemd() {
	if s.t.Failed() {
		for _, name := range []string{filepath.Join(s.dir, "manager.log"), s.outPath()} {
			b, _ := os.ReadFile(name)
			s.t.Logf("%s:\n%s", name, b[max(0, len(b)-6000):])
		}
	}
	_ = s.stdin.Close()
	done := make(chan error, 1)
	go func() { done <- s.script.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			s.t.Errorf("private systemd ended with %v", err)
		}
	case <-time.After(60 * time.Second):
		s.t.Error("private systemd does not end")
		_ = s.script.Process.Signal(syscall.SIGTERM)
		<-done
	}
	_ = unix.Unmount(s.mnt, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // a test that failed may have left it
	s.checkResidue()
}

func (s *service) outPath() string { return filepath.Join(s.host.dir, "out.log") }

// adapt turns the shipped unit into one for this host. What is left out and why:
//   - RuntimeDirectory=, StateDirectory=, LogsDirectory=: a user manager's are elsewhere; the configuration has this
//     host's directories instead;
//   - the journal, which has no receiver: the server writes to a file;
//   - OOMScoreAdjust=-900 and LimitMEMLOCK=infinity stay, but want CAP_SYS_RESOURCE and are passed over without it.
//
// The manager has a mount namespace of its own, so every command of ours is run in the host's, for which nsenter needs
// CAP_SYS_CHROOT.
func (s *service) adapt(unit string) string {
	s.t.Helper()
	b, err := os.ReadFile(unit)
	if err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		switch key, _, _ := strings.Cut(line, "="); key {
		case "RuntimeDirectory", "StateDirectory", "LogsDirectory":
			continue
		}
		out.WriteString(line)
	}
	text := out.String()
	for _, r := range []struct{ old, new string }{
		{"/usr/local/bin/claudefs", fmt.Sprintf("/usr/bin/nsenter --mount=/proc/%d/ns/mnt -- %s", os.Getpid(), claudefs)},
		{"systemctl list-jobs", "systemctl --user list-jobs"},
		{"[Service]\n", fmt.Sprintf("[Service]\nEnvironment=CLAUDEFS_CONFIG=%s DBUS_SESSION_BUS_ADDRESS=\nCapabilityBoundingSet=CAP_SYS_CHROOT\n"+
			"StandardOutput=append:%s\nStandardError=inherit\n", s.config, s.outPath())},
	} {
		if !strings.Contains(text, r.old) {
			s.t.Fatalf("%s has no %q", unit, r.old)
		}
		text = strings.ReplaceAll(text, r.old, r.new)
	}
	return text
}

// install puts the unit in place, as a package would: in one step, and then a reload.
func (s *service) install(unit string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "units", "claudefs.service")
	if err := os.WriteFile(path+".new", []byte(unit), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		s.t.Fatal(err)
	}
	s.must("daemon-reload")
}

// systemctl runs a command of the private systemd's.
func (s *service) systemctl(args ...string) (string, error) {
	cmd := exec.Command("timeout", append([]string{"60", "systemctl", "--user", "--no-pager"}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+filepath.Join(s.dir, "xdg"), "DBUS_SESSION_BUS_ADDRESS=")
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

func (s *service) must(args ...string) {
	s.t.Helper()
	if out, err := s.systemctl(args...); err != nil {
		s.t.Fatalf("systemctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// property is one of the unit's.
func (s *service) property(name string) string {
	s.t.Helper()
	out, err := s.systemctl("show", "--property="+name, "--value", "claudefs")
	if err != nil {
		s.t.Fatalf("systemctl show: %v: %s", err, out)
	}
	return out
}

// mainPID waits for a running server other than old, and wants the mount where it was.
func (s *service) mainPID(old int) int {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if pid, _ := strconv.Atoi(s.property("MainPID")); pid != 0 && pid != old && s.property("SubState") == "running" {
			if !s.mounted() {
				s.t.Error("a server runs, and nothing is mounted on the host")
			}
			return pid
		}
	}
	s.t.Fatalf("no other server than %d runs", old)
	return 0
}

// signal sends a signal to the server and waits for the next one.
func (s *service) signal(sig syscall.Signal) {
	s.t.Helper()
	pid := s.mainPID(0)
	if err := syscall.Kill(pid, sig); err != nil {
		s.t.Fatal(err)
	}
	s.mainPID(pid)
}

// mounted reports whether something is mounted at the mountpoint, without asking it.
func (s *service) mounted() bool {
	s.t.Helper()
	all, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(s.mnt))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(all) > 0
}

// stopped wants nothing left of the service.
func (s *service) stopped(what string) {
	s.t.Helper()
	if s.mounted() {
		s.t.Errorf("%s: the mount is left", what)
	}
	if n := s.property("NFileDescriptorStore"); n != "0" {
		s.t.Errorf("%s: systemd holds %s descriptors", what, n)
	}
	out, err := exec.Command("pgrep", "--full", claudefs+" mount --keeper systemd").Output()
	if err == nil {
		s.t.Errorf("%s: processes are left: %s", what, out)
	}
}

// The shipped unit under a real systemd: its descriptor store is the keeper, and no container notices a kill, a reload,
// a restart or a hang; a stop ends the mount.
func TestSystemd(t *testing.T) {
	s := newService(t, hostOptions{config: "keeper: {watchdog: 2s}\n"})
	s.login("web", false)
	if st := s.status(); st.Keeper.Holder != "systemd" || !st.Keeper.Sealed || st.Mountpoint != s.mnt {
		t.Errorf("status: %+v at %s", st.Keeper, st.Mountpoint)
	}
	t.Logf("%s descriptors in the store; %s", s.property("NFileDescriptorStore"), s.confinement())
	r := s.reading("web")
	kills := times(t, "SYSTEMD_KILLS", 20)
	t.Run("kill", func(t *testing.T) {
		begun := time.Now()
		for range kills {
			s.signal(syscall.SIGKILL)
			time.Sleep(20 * time.Millisecond)
		}
		if n := s.property("NRestarts"); n != strconv.Itoa(kills) {
			t.Errorf("%s restarts after %d kills", n, kills)
		}
		t.Logf("%d kills in %v", kills, time.Since(begun).Round(time.Millisecond))
	})
	t.Run("terminate", func(t *testing.T) { s.signal(syscall.SIGTERM) }) // nobody asked systemd for a stop
	t.Run("reload", func(t *testing.T) {
		for range 3 {
			pid, before := s.mainPID(0), s.status()
			s.must("reload", "claudefs")
			after := s.status()
			if s.mainPID(0) != pid || after.Keeper.Servers != before.Keeper.Servers+1 || after.Keeper.HandOverError != "" {
				t.Errorf("server %d of process %d became %d of %d", before.Keeper.Servers, pid, after.Keeper.Servers, s.mainPID(0))
			}
		}
		s.signal(syscall.SIGKILL) // what the store has is still good
	})
	t.Run("restart", func(t *testing.T) {
		for range 3 {
			pid := s.mainPID(0)
			s.must("restart", "claudefs")
			s.mainPID(pid)
		}
	})
	t.Run("hang", func(t *testing.T) {
		begun := time.Now()
		s.signal(syscall.SIGSTOP)
		t.Logf("replaced after %v", time.Since(begun).Round(10*time.Millisecond))
	})
	t.Run("unit file replaced", func(t *testing.T) {
		s.install(s.adapt(shippedUnit) + "# of a newer package\n")
		s.signal(syscall.SIGKILL)
	})
	t.Run("server that cannot start", func(t *testing.T) { s.failToStart(t) })
	r.end(t)
	t.Run("stop", func(t *testing.T) {
		s.must("stop", "claudefs")
		s.stopped("stop")
	})
	t.Run("start again", func(t *testing.T) {
		s.must("start", "claudefs")
		r := s.reading("web")
		s.signal(syscall.SIGKILL)
		r.end(t)
	})
	t.Run("unmount by command", func(t *testing.T) { // Restart=always: systemd mounts anew, and not what has ended
		pid := s.mainPID(0)
		if out, code := s.run("unmount"); code != 0 {
			t.Errorf("unmount: exit %d: %s", code, out)
		}
		s.mainPID(pid)
		r := s.reading("web")
		s.signal(syscall.SIGKILL)
		r.end(t)
	})
	t.Run("connection ended while no server ran", func(t *testing.T) {
		pid := s.mainPID(0)
		abort := s.openAbort()
		defer abort.Close()
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		if _, err := abort.WriteString("1"); err != nil {
			t.Error(err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		r := s.readingSoon("web")
		s.signal(syscall.SIGKILL)
		r.end(t)
	})
	t.Run("stop of a hung server", func(t *testing.T) {
		s.install(strings.ReplaceAll(s.adapt(shippedUnit), "TimeoutStopSec=30", "TimeoutStopSec=4"))
		if err := syscall.Kill(s.mainPID(0), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		s.must("stop", "claudefs")
		s.stopped("stop of a hung server")
	})
}

// failToStart has every start fail for a while: systemd goes on trying and says why, requests wait, and the mount is
// well again as soon as the cause is gone.
func (s *service) failToStart(t *testing.T) {
	good, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	pid := s.mainPID(0)
	s.write("config.yaml", string(good)+"nonsense: 1\n")
	_ = syscall.Kill(pid, syscall.SIGKILL)
	said := func() bool { return strings.Contains(s.property("StatusText"), "nonsense") }
	restarts := func() int { n, _ := strconv.Atoi(s.property("NRestarts")); return n }
	before := restarts()
	for end := time.Now().Add(10 * time.Second); !said() || restarts() < before+5; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d restarts, status %q", restarts()-before, s.property("StatusText"))
			break
		}
	}
	s.write("config.yaml", string(good))
	s.mainPID(pid)
}

// openAbort opens the file that ends the connection.
func (s *service) openAbort() *os.File {
	s.t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(s.mnt, &st); err != nil {
		s.t.Fatal(err)
	}
	dir := s.t.TempDir()
	if err := unix.Mount("fusectl", dir, "fusectl", 0, ""); err != nil {
		s.t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(int(unix.Minor(st.Dev))), "abort"), os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// readingSoon starts a reader as soon as the mount answers.
func (s *service) readingSoon(tree string) *reader {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(s.path(tree)); err == nil {
			break
		}
	}
	return s.reading(tree)
}

// confinement is what the kernel says of the running server: it has no more than the unit lets it.
func (s *service) confinement() string {
	s.t.Helper()
	pid := s.mainPID(0)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "CapEff", "NoNewPrivs", "Seccomp":
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	own, err1 := os.Readlink("/proc/self/ns/mnt")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err1 != nil || err2 != nil || own != theirs {
		s.t.Errorf("the server is in mount namespace %s (%v), not %s (%v)", theirs, err2, own, err1)
	}
	return strings.Join(out, ", ")
}
