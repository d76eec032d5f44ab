package broker_test

import (
	"bufio"
	"errors"
	iofs "io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

const gatePolicy = `
  - {name: me, match: {tree: "web*", host: {uid: [1000]}}, allow: {level: shared}}
  - {name: box, match: {tree: ["web*", "other"], container: {}}, allow: {level: shared}}
`

// self makes the subject of this very process: Use reads its mount namespace.
func (w *world) self(uid uint32, s *identity.Subject) identity.Caller {
	w.att.subjects[uint32(os.Getpid())] = s
	return identity.Caller{TID: uint32(os.Getpid()), UID: uid}
}

func TestEnterAndUse(t *testing.T) {
	host := &identity.Subject{Host: true, HostRoot: true}
	box := func(hostRoot bool, roots ...string) *identity.Subject {
		return &identity.Subject{Container: strings.Repeat("a", 64), Runtime: "docker", Roots: roots, HostRoot: hostRoot}
	}
	euid := uint32(os.Geteuid())
	for _, tt := range []struct {
		name    string
		uid     uint32
		subject *identity.Subject
		tree    string
		enter   bool
		use     bool
	}{
		{"host root", 0, host, "web", true, true},
		{"daemon's own user", euid, host, "web", true, true},
		{"host user with a rule", 1000, host, "web", true, true},
		{"host user with a rule for other trees", 1000, host, "other", false, false},
		{"host user without a rule", 1001, host, "web", false, false},
		{"container that holds it", 1001, box(false, "/web"), "web", true, true},
		{"container that holds a part of it", 0, box(false, "/web/projects"), "web", true, true},
		{"container that holds another", 0, box(false, "/other"), "web", false, false},
		{"container that holds none", 0, box(false), "web", false, false},
		{"container with the whole mount", 0, box(false, "/"), "web", false, false},
		{"container with the whole mount too", 1000, box(false, "/web", "/"), "web", false, false},
		{"being set up, root", 0, box(true), "web", true, false},
		{"being set up, with the host's mounts", 0, box(true, "/"), "web", true, false},
		{"being set up, a user", 1000, box(true), "web", false, false},
		{"name that no rule allows", 0, host, "nobody", false, true},
		{"name that is none", 0, host, "../web", false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, gatePolicy)
			c := w.self(tt.uid, tt.subject)
			err := w.Enter(t.Context(), c, tt.tree)
			if (err == nil) != tt.enter || err != nil && !errors.Is(err, iofs.ErrNotExist) {
				t.Errorf("enter: got %v, want nil: %t, else ErrNotExist", err, tt.enter)
			}
			err = w.Use(t.Context(), c, tt.tree)
			if (err == nil) != tt.use || err != nil && !errors.Is(err, iofs.ErrPermission) {
				t.Errorf("use: got %v, want nil: %t, else ErrPermission", err, tt.use)
			}
			// Whoever is turned away is recorded once, with the reason; a runtime on its way and unknown names are not.
			records := w.log.since()
			settingUp := tt.subject.HostRoot && !tt.subject.Host && tt.uid == 0
			if want := !tt.use && !settingUp; (len(records) == 1) != want || len(records) > 1 {
				t.Errorf("records: %+v", records)
			}
			for _, e := range records {
				if e.Action != audit.ActionEnter || e.Outcome != audit.Denied || e.Tree != tt.tree || e.Reason == "" || e.Container != tt.subject.Container {
					t.Errorf("record: %+v", e)
				}
			}
		})
	}
}

// Fail closed: a caller that cannot be named passes nowhere.
func TestGateFailsClosedForUnknownCaller(t *testing.T) {
	w := newWorld(t, gatePolicy)
	for _, c := range []identity.Caller{{}, w.self(0, nil)} {
		w.att.err = errors.New("no /proc")
		wantErr(t, w.Enter(t.Context(), c, "web"), iofs.ErrNotExist)
		wantErr(t, w.Use(t.Context(), c, "web"), iofs.ErrPermission)
		if got := w.List(t.Context(), c); got != nil {
			t.Errorf("list: got %v", got)
		}
	}
}

func TestUseRefusesAnotherContainerOfAnIsolatedTree(t *testing.T) {
	w := newWorld(t, "isolated", given)
	w.login(t, "default")
	owner := w.container("owner", "web")
	w.open(t, owner, "web")
	c := w.self(0, &identity.Subject{Container: strings.Repeat("b", 64), Roots: []string{"/web"}})
	wantErr(t, w.Use(t.Context(), c, "web"), policy.ErrDenied)
	w.att.end(owner.TID)
	wantErr(t, w.Use(t.Context(), c, "web"), nil)
}

// A yes is used again for the very same question alone.
func TestUseCacheDoesNotLeak(t *testing.T) {
	needRoot(t)
	w := newWorld(t, gatePolicy)
	c := w.self(1000, &identity.Subject{Container: strings.Repeat("a", 64), Roots: []string{"/web"}})
	wantErr(t, w.Use(t.Context(), c, "web"), nil)
	asked := w.att.asked
	w.att.subjects[c.TID] = nil // from here on the attestor would say no
	w.att.err = errors.New("asked again")
	wantErr(t, w.Use(t.Context(), c, "web"), nil)
	if w.att.asked != asked {
		t.Error("the second use asked again")
	}
	for name, f := range map[string]func() error{
		"another tree": func() error { return w.Use(t.Context(), c, "web-2") },
		"another uid": func() error {
			return w.Use(t.Context(), identity.Caller{TID: c.TID, UID: 1001}, "web")
		},
		"another mount namespace": func() error {
			return w.Use(t.Context(), identity.Caller{TID: elsewhere(t), UID: 1000}, "web")
		},
	} {
		if err := f(); err == nil {
			t.Errorf("%s: the yes leaked", name)
		}
	}
}

// elsewhere is a process in a mount namespace of its own.
func elsewhere(t *testing.T) uint32 {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo; read x")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return uint32(cmd.Process.Pid)
}

func TestList(t *testing.T) {
	w := newWorld(t, gatePolicy)
	for _, tree := range []string{"web", "other", "web-2", "nobody"} {
		if _, err := w.StateDir(tree); err != nil {
			t.Fatal(err)
		}
	}
	host := &identity.Subject{Host: true}
	for _, tt := range []struct {
		name    string
		uid     uint32
		subject *identity.Subject
		want    []string
	}{
		{"host root", 0, host, []string{"other", "web", "web-2"}},
		{"host user with a rule", 1000, host, []string{"web", "web-2"}},
		{"host user", 1001, host, []string{}},
		{"container", 1000, &identity.Subject{Container: "x", Roots: []string{"/web-2/projects", "/web", "/web-2"}}, []string{"web", "web-2"}},
		{"container without", 1000, &identity.Subject{Container: "x"}, []string{}},
	} {
		got := w.List(t.Context(), w.self(tt.uid, tt.subject))
		if d := cmp.Diff(tt.want, slices.Clip(append([]string{}, got...))); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

func TestStateDirIsSeededOnce(t *testing.T) {
	w := newWorld(t, gatePolicy)
	dir, err := w.StateDir("web")
	if err != nil {
		t.Fatal(err)
	}
	seed := dir + "/.claude.json"
	if b, err := os.ReadFile(seed); err != nil || !strings.Contains(string(b), "hasCompletedOnboarding") {
		t.Errorf("got %q, %v", b, err)
	}
	above, err1 := os.Stat(dir + "/..")
	if st, err := os.Stat(dir); err != nil || err1 != nil || st.Mode().Perm() != 0o777 || above.Mode().Perm() != 0o700 {
		t.Errorf("modes: %v, above %v", st.Mode(), above.Mode())
	}
	if err := os.Remove(seed); err != nil {
		t.Fatal(err)
	}
	if _, err := w.StateDir("web"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(seed); !errors.Is(err, iofs.ErrNotExist) {
		t.Error("a file that the client removed came back")
	}
	if got := w.Trees(); !slices.Equal(got, []string{"web"}) {
		t.Errorf("trees %v", got)
	}
}

func TestScreen(t *testing.T) {
	for _, p := range []string{"shared", `  - {name: r, match: {container: {}}, allow: {level: shared, refresh_token: "null"}}` + "\n"} {
		w := newWorld(t, p)
		l := w.login(t, "default")
		c := w.container("web", "web")
		if err := w.Check("web", []byte(l.AccessToken)); err != nil {
			t.Errorf("before the first read: %v", err)
		}
		got := w.read(t, c, "web")
		w.log.since()
		secrets := []string{l.AccessToken, "x" + l.AccessToken + "y", l.AccessToken[:24]}
		if got.refresh != "" {
			secrets = append(secrets, got.refresh, got.refresh[:24])
		}
		for _, s := range secrets {
			wantErr(t, w.Check("web", []byte(s)), policy.ErrDenied)
			if e := w.log.last(t); e.Tree != "web" || e.Account != "default" || e.Generation != 1 || strings.Contains(e.Reason, s) {
				t.Errorf("got %+v", e)
			}
		}
		for _, s := range []string{"", "hello", l.AccessToken[:23], l.RefreshToken, "sk-ant-oat01-"} {
			wantErr(t, w.Check("web", []byte(s)), nil)
		}
		wantErr(t, w.Check("other", []byte(l.AccessToken)), nil) // it was not given that one
		// Earlier tokens are screened for as well: a client may still hold them.
		w.rotate(t, "default")
		second := w.read(t, c, "web").access
		wantErr(t, w.Check("web", []byte(l.AccessToken)), policy.ErrDenied)
		wantErr(t, w.Check("web", []byte(second)), policy.ErrDenied)
		full := errors.New("disk is full")
		w.log.fail(full)
		wantErr(t, w.Check("web", []byte(second)), full)
	}
}

// A token that was handed out while the vault was locked is screened for although no surrogate could be made.
func TestScreenWhileTheVaultIsLocked(t *testing.T) {
	w := newWorld(t, "  - {name: r, match: {container: {}}, allow: {level: shared, refresh_token: \"null\"}}\n")
	l := w.login(t, "default")
	c := w.container("web", "web")
	// The tree is known, as after a lookup; the surrogate's key is not.
	if _, err := w.StateDir("web"); err != nil {
		t.Fatal(err)
	}
	w.Status()
	w.vault.Lock()
	w.open(t, c, "web")
	wantErr(t, w.Check("web", []byte(l.AccessToken)), policy.ErrDenied)
}
