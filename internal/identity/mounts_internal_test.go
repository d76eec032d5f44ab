package identity

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tenant is a shell in a mount namespace of its own. It does what it is told.
type tenant struct {
	t   *testing.T
	e   entry
	in  *os.File
	out *bufio.Reader
}

func newTenant(t *testing.T) *tenant {
	t.Helper()
	in, tell, err1 := os.Pipe()
	hear, out, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("a mount namespace needs root:", err)
	}
	_, _ = in.Close(), out.Close()
	e, err := kernel.open(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tell.Close(); _ = cmd.Wait(); _ = hear.Close(); e.close() })
	return &tenant{t, e, tell, bufio.NewReader(hear)}
}

// do has the tenant run a command of the shell.
func (x *tenant) do(format string, v ...any) {
	x.t.Helper()
	command := fmt.Sprintf(format, v...)
	fmt.Fprintf(x.in, "%s && echo done || echo failed\n", command)
	if line, err := x.out.ReadString('\n'); line != "done\n" {
		x.t.Fatalf("%s: %q, %v", command, line, err)
	}
}

// ids are the roots by number, which the test cannot do without.
func (x *tenant) ids(m *mountIDs, dev uint64) []string {
	x.t.Helper()
	got, err := m.roots(x.e, x.e.root(), dev)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTTY) {
		x.t.Skip("the kernel is older than 6.11:", err)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return got
}

// What is asked by number is what the written table says, whatever happens to the mounts.
func TestMountsByNumber(t *testing.T) {
	x, dir := newTenant(t), t.TempDir()
	x.do("mount -t tmpfs -o mode=755 box %s", dir)
	x.do("cd %s && mkdir web 'a b' in m1 m2 m3", dir)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("%s/cwd", x.e.path), &st); err != nil {
		t.Fatal(err)
	}
	dev, m := st.Dev, &mountIDs{}
	for _, c := range []struct {
		do   string
		want []string
	}{
		{"true", []string{"/"}},
		{"mount --bind web m1", []string{"/", "/web"}},
		{"mount --bind 'a b' m2", []string{"/", "/a b", "/web"}},
		{"mount -t tmpfs other m3", []string{"/", "/a b", "/web"}},
		{"mkdir m3/deep && mount --bind web m3/deep", []string{"/", "/a b", "/web", "/web"}},
		{"mv web moved", []string{"/", "/a b", "/moved", "/moved"}},
		{"umount m1", []string{"/", "/a b", "/moved"}},
		{"umount -l m3", []string{"/", "/a b"}},
		{"umount m2", []string{"/"}},
		{"mount --bind moved m1", []string{"/", "/moved"}},
		{"rmdir moved", []string{"/", "/moved//deleted"}},
	} {
		x.do("%s", c.do)
		for _, how := range []string{"first", "known"} {
			got := x.ids(m, dev)
			table, err := x.e.table(dev)
			slices.Sort(got)
			slices.Sort(table)
			if !slices.Equal(got, c.want) || !slices.Equal(table, c.want) || err != nil {
				t.Errorf("%s, %s: got %q, table %q, %v, want %q", c.do, how, got, table, err, c.want)
			}
		}
	}
}

// A process whose root is a mount below others sees what is below that, and one whose root is a directory is left to the
// written table: by number it would hold a tree that it cannot reach.
func TestMountsBelowTheRoot(t *testing.T) {
	x, dir := newTenant(t), t.TempDir()
	x.do("mount -t tmpfs box %s && cd %s && mkdir web in m1", dir, dir)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("%s/cwd", x.e.path), &st); err != nil {
		t.Fatal(err)
	}
	x.do("mount --bind web m1")
	x.ids(&mountIDs{}, st.Dev)
	for _, c := range []struct {
		do, root string
		byNumber bool
		want     []string
	}{
		{"mount -t tmpfs other in && mkdir in/m2 && mount --bind web in/m2", "in", true, []string{"/web"}},
		{"mkdir -p plain/m3 && mount --bind web plain/m3", "plain", false, []string{"/web"}},
		{"true", "m1", true, []string{"/web"}}, // ours itself
	} {
		x.do("%s", c.do)
		root := filepath.Join(dir, c.root)
		e := chrooted(t, x, root)
		got, err := (&mountIDs{}).roots(e, e.root(), st.Dev)
		if c.byNumber && (err != nil || !slices.Equal(got, c.want)) || !c.byNumber && !errors.Is(err, errNoIDs) {
			t.Errorf("root %s: got %q, %v", root, got, err)
		}
		if got := held(t, e, st.Dev); !slices.Equal(got, c.want) {
			t.Errorf("root %s: held %q", root, got)
		}
	}
}

// held are the roots by whichever way is taken.
func held(t *testing.T, e entry, dev uint64) []string {
	t.Helper()
	var r Resolver
	r.SetDevice(dev)
	s := &Subject{}
	if err := r.look(s, e, e.root()); err != nil {
		t.Fatal(err)
	}
	return s.Roots
}

// More mounts than are asked for at once are left to the written table: the one that matters may be among the rest.
func TestTooManyMounts(t *testing.T) {
	x, dir := newTenant(t), t.TempDir()
	x.do("mount -t tmpfs box %s && cd %s && mkdir web all m1", dir, dir)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("%s/cwd", x.e.path), &st); err != nil {
		t.Fatal(err)
	}
	// Each mount over a tree of mounts takes as many along as there are.
	x.do("mount --bind web m1 && for i in 1 2 3 4 5 6 7 8 9; do mkdir all/$i && mount --rbind . all/$i || exit; done")
	if got, err := (&mountIDs{}).roots(x.e, x.e.root(), st.Dev); !errors.Is(err, errNoIDs) {
		t.Errorf("got %d roots, %v", len(got), err)
	}
	if got := held(t, x.e, st.Dev); len(got) < maxMounts {
		t.Errorf("held %d", len(got))
	}
}

// A daemon that may not list the mounts reads the written table: a container must not lose its tree by that, nor gain one.
func TestMountsDenied(t *testing.T) {
	x, dir := newTenant(t), t.TempDir()
	x.do("mount -t tmpfs box %s && cd %s && mkdir web m1 && mount --bind web m1", dir, dir)
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("%s/cwd", x.e.path), &st); err != nil {
		t.Fatal(err)
	}
	x.ids(&mountIDs{}, st.Dev)
	runtime.LockOSThread() // and end the thread with the test: it stays without
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	if err := unix.Capset(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
	if got, err := (&mountIDs{}).roots(x.e, x.e.root(), st.Dev); !errors.Is(err, errNoIDs) {
		t.Errorf("got %q, %v", got, err)
	}
	got := held(t, x.e, st.Dev)
	slices.Sort(got)
	if want := []string{"/", "/web"}; !slices.Equal(got, want) {
		t.Errorf("held %q, want %q", got, want)
	}
}

// chrooted is a process in the tenant's mount namespace with another root.
func chrooted(t *testing.T, x *tenant, root string) entry {
	t.Helper()
	pid := strings.TrimPrefix(x.e.path, "/proc/")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nsenter", "--mount", "--target", pid, "--", self, "-test.run", "^TestChrootHelper$")
	cmd.Env = append(os.Environ(), "IDENTITY_TEST_ROOT="+root)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "there\n" {
		t.Fatalf("%q, %v", line, err)
	}
	e, err := kernel.open(uint32(cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.close)
	return e
}

// TestChrootHelper is the process that chrooted starts.
func TestChrootHelper(t *testing.T) {
	root := os.Getenv("IDENTITY_TEST_ROOT")
	if root == "" {
		t.Skip("for TestMountsBelowTheRoot")
	}
	if err := unix.Chroot(root); err != nil {
		t.Fatal(err)
	}
	fmt.Println("there")
	_, _ = os.Stdin.Read(make([]byte, 1))
}
