package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/internal/keeper"

	"github.com/claudefs/claudefs/vault"
)

// The test binary is claudefs too: testscript starts it under that name, and claudefs starts itself again as
// /proc/self/exe (the background daemon, the keyring helper), which has to be claudefs and not the tests.
func TestMain(m *testing.M) {
	if os.Args[0] == "/proc/self/exe" {
		main()
	}
	testscript.Main(m, map[string]func(){"claudefs": main})
}

// secret is in every token of the scripts; nothing may print it.
const secret = "S3CR3T"

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// TestMountScripts needs root and /dev/fuse.
func TestMountScripts(t *testing.T) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR, 0)
	if err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("root and /dev/fuse are needed:", err)
		}
		t.Skip("needs root and /dev/fuse:", err)
	}
	_ = unix.Close(fd)
	runScripts(t, "testdata/mount")
}

func runScripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir, Setup: setup, RequireExplicitExec: true, RequireUniqueNames: true,
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"waitmount": waitMount, "killdaemon": killDaemon, "nosecret": noSecret, "bind": bind, "exits": exits, "edit": edit, "makevault": makeVault,
		},
	})
}

// setup gives each script a configuration below its own directory.
func setup(e *testscript.Env) error {
	text := strings.ReplaceAll(`state_dir: WORK/state
runtime_dir: WORK/run
audit: {file: WORK/audit.jsonl}
vault: {backend: passphrase, passphrase_file: WORK/passphrase}
oauth: {token_url: "http://127.0.0.1:1/token"}
runtimes: []
`, "WORK", e.WorkDir)
	e.Vars = append(e.Vars, "CLAUDEFS_CONFIG="+filepath.Join(e.WorkDir, "config.yaml"), "HOME="+filepath.Join(e.WorkDir, "home"))
	e.Defer(func() { cleanUp(e.WorkDir) })
	if err := os.WriteFile(filepath.Join(e.WorkDir, "passphrase"), []byte(secret+"-pass\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(e.WorkDir, "config.yaml"), []byte(text), 0o600)
}

// cleanUp takes away what a script that failed left: daemons that work below dir, then mounts.
func cleanUp(dir string) {
	status, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range status {
		b, _ := os.ReadFile(f)
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && pid != os.Getpid() && bytes.Contains(b, []byte("CLAUDEFS_CONFIG="+dir+"/")) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	mounts, _ := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	for _, m := range mounts {
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
	}
}

// exits runs claudefs and wants an exit code: exits CODE ARGS…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits code args...")
	}
	err := ts.Exec("claudefs", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s (%v), want %s", got, err, args[0])
	}
}

// makeVault makes the script's vault with a passphrase slot that opens soon; the default takes seconds under -race.
func makeVault(ts *testscript.TestScript, _ bool, _ []string) {
	_, _, err := vault.Create(context.Background(), vault.Config{
		Dir: ts.MkAbs("state/vault"), ScryptWorkFactor: 8,
		Passphrase: func(context.Context) (vault.Secret, error) { return vault.NewSecret([]byte(secret + "-pass")), nil },
	}, vault.BackendPassphrase)
	ts.Check(err)
}

// edit changes text in a file: edit FILE OLD NEW
func edit(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b := []byte(ts.ReadFile(path))
	if !bytes.Contains(b, []byte(args[1])) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, bytes.Replace(b, []byte(args[1]), []byte(args[2]), 1), 0o600))
}

// waitMount waits until a claudefs is mounted at a directory and answers; with "!" until none is.
func waitMount(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		infos, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
		ts.Check(err)
		var st unix.Stat_t
		up := len(infos) > 0 && infos[0].FSType == "fuse.claudefs" && unix.Stat(dir, &st) == nil
		if up != neg {
			return
		}
	}
	ts.Fatalf("mounted at %s: still not so", dir)
}

// killDaemon ends a daemon without a chance to clean up: killdaemon FILE, which holds its ready line.
func killDaemon(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`daemon (\d+)`).FindStringSubmatch(ts.ReadFile(args[0]))
	if m == nil {
		ts.Fatalf("no daemon in %s", args[0])
	}
	keeperPID, _ := strconv.Atoi(m[1])
	k, err := keeper.ReadStatus(ts.MkAbs("run"))
	ts.Check(err)
	// Both at once: each would start the other again.
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		ts.Check(syscall.Kill(keeperPID, sig))
		ts.Check(syscall.Kill(k.Server, sig))
	}
	m[1] = strconv.Itoa(k.Server)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		// Its threads end one by one, and the last one closes the socket and the mount.
		b, err := os.ReadFile("/proc/" + m[1] + "/stat")
		tasks, _ := os.ReadDir("/proc/" + m[1] + "/task")
		if err != nil || bytes.Contains(b, []byte(") Z ")) && len(tasks) <= 1 {
			return
		}
	}
	ts.Fatalf("daemon %d does not end", k.Server)
}

// bind mounts a tmpfs: bind DIR
func bind(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(unix.Mount("tmpfs", ts.MkAbs(args[0]), "tmpfs", 0, "size=16k"))
}

// noSecret wants no token, whole or in part, in the last output and in all files but the imported one.
func noSecret(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range []string{"stdout", "stderr"} {
		if strings.Contains(ts.ReadFile(name), secret) {
			ts.Fatalf("%s shows a secret", name)
		}
	}
	for _, dir := range args {
		ts.Check(filepath.WalkDir(ts.MkAbs(dir), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(secret)) {
				ts.Fatalf("%s holds a secret", path)
			}
			return nil
		}))
	}
}
