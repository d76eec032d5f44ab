package fs_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// asUserArg makes the test binary run one step; the caller gives it another user's ids.
const asUserArg = "as-user"

func asUser(step string, args []string) int {
	steps := map[string]func([]string) error{"hammer": hammer, "read": readFile, "write": writeFile, "chmod": chmodFile}
	if err := steps[step](args); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func readFile(a []string) error {
	b, err := os.ReadFile(a[0])
	if err == nil {
		fmt.Print(string(b))
	}
	return err
}

func writeFile(a []string) error { return os.WriteFile(a[0], []byte(a[1]), 0o600) }

func chmodFile(a []string) error { return os.Chmod(a[0], 0o777) }

// hammer opens, fstats and stats the credential file of the tree a[0] a[1] times; each must show the caller as owner.
func hammer(a []string) error {
	n, err := strconv.Atoi(a[1])
	if err != nil {
		return err
	}
	file := filepath.Join(a[0], ".credentials.json")
	for i := range n {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("open %d: %w", i, err)
		}
		var st syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &st); err != nil || int(st.Uid) != os.Getuid() {
			return fmt.Errorf("fstat %d: uid %d: %v", i, st.Uid, err)
		}
		_ = f.Close()
		if err := syscall.Stat(file, &st); err != nil || int(st.Uid) != os.Getuid() || st.Mode&0o777 != 0o600 {
			return fmt.Errorf("stat %d: uid %d mode %o: %v", i, st.Uid, st.Mode, err)
		}
		own := filepath.Join(a[0], fmt.Sprintf("own-%d", os.Getuid()))
		if err := os.WriteFile(own, []byte("x"), 0o600); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
		if err := syscall.Stat(own, &st); err != nil || int(st.Uid) != os.Getuid() {
			return fmt.Errorf("own file %d: uid %d: %v", i, st.Uid, err)
		}
	}
	return nil
}

// step runs a step as a user and returns what it printed.
func step(t *testing.T, uid uint32, name string, args ...string) (string, error) {
	t.Helper()
	bin, err := testBinary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{asUserArg, name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// testBinary is a copy of this program that every user can execute.
var testBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "claudefs-bin-")
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "test")
	return path, errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, b, 0o755))
})

// Three users at once on one tree: no spurious refusal, and each sees itself as owner. With default_permissions and
// an owner per inode a quarter of these opens fails (docs/adr/0002).
func TestThreeConcurrentUsers(t *testing.T) {
	m := mount(t)
	if _, err := testBinary(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, uid := range []uint32{0, 1000, 65534} {
		wg.Go(func() {
			if out, err := step(t, uid, "hammer", m.tree, "400"); err != nil {
				t.Errorf("uid %d: %v: %s", uid, err, out)
			}
		})
	}
	wg.Wait()
}

// State files are the caller's, and the kernel's own permission rules hold between users of one tree.
func TestStateFilePermissions(t *testing.T) {
	m := mount(t)
	secret := m.path("secret")
	if out, err := step(t, 1000, "write", secret, "mine"); err != nil {
		t.Fatalf("write as 1000: %v: %s", err, out)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(m.dir, "state-web", "secret"), &st); err != nil || st.Uid != 1000 || st.Mode&0o777 != 0o600 {
		t.Fatalf("backing file: uid %d mode %o: %v", st.Uid, st.Mode, err)
	}
	for _, op := range [][]string{{"read", secret}, {"write", secret, "theirs"}, {"chmod", secret}} {
		out, err := step(t, 65534, op[0], op[1:]...)
		if err == nil || !strings.Contains(out, "denied") && !strings.Contains(out, "not permitted") {
			t.Errorf("%s as 65534: got %v %q, want a refusal", op[0], err, out)
		}
	}
	if out, err := step(t, 1000, "read", secret); err != nil || out != "mine" {
		t.Errorf("read as owner: %v %q", err, out)
	}
	// A directory that only root may pass, and a file in it that anybody could read.
	if err := os.Mkdir(m.path("private"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path("private/file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := step(t, 1000, "read", m.path("private/file")); err == nil {
		t.Errorf("uid 1000 read through root's 0700 directory: %q", out)
	}
}
