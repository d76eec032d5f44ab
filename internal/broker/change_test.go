package broker_test

import (
	"bytes"
	"errors"
	iofs "io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

const surrogatePrefix = "sk-ant-ort01-claudefs-"

func TestSurrogate(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	a, b := w.container("a", "a"), w.container("b", "b")
	seen := map[string]string{}
	for g := range 3 {
		for tree, c := range map[string]uint32{"a": a.TID, "b": b.TID} {
			caller := a
			if c == b.TID {
				caller = b
			}
			s := w.read(t, caller, tree).refresh
			if !strings.HasPrefix(s, surrogatePrefix+strconv.Itoa(g+1)+"-") || len(s) < 60 {
				t.Errorf("tree %s generation %d: got %q", tree, g+1, s)
			}
			if other, ok := seen[s]; ok {
				t.Errorf("surrogate of %s is that of %s", tree, other)
			}
			seen[s] = tree
			w.restart(t)
			if again := w.read(t, caller, tree).refresh; again != s {
				t.Errorf("after a restart got %q, want %q", again, s)
			}
		}
		w.rotate(t, "default")
	}
	if len(seen) != 6 {
		t.Errorf("got %d surrogates, want 6", len(seen))
	}
	// Those of every generation are known again, by a daemon that has shown none of them.
	w.restart(t)
	for s, tree := range seen {
		l := refreshtest.Login{AccessToken: "x", RefreshToken: s, ExpiresAt: time.Now(), Scopes: []string{"s"}}
		wantErr(t, w.publish(t, a, "a", file(t, l, nil)), map[string]error{"a": nil, "b": policy.ErrDenied}[tree])
	}
	if got := w.generation(t, "default"); got != 4 {
		t.Errorf("generation %d: a surrogate was taken for a login", got)
	}
	if ids, err := w.vault.Accounts(); len(ids) != 1 {
		t.Errorf("accounts %v %v, want default alone", ids, err)
	}
}

func TestForeignSurrogates(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	real := w.read(t, c, "web").refresh
	forged := []byte(real)
	forged[len(forged)-2] ^= 1
	for _, s := range []string{
		surrogatePrefix, surrogatePrefix + "1-", surrogatePrefix + "x-" + real[30:], surrogatePrefix + "99999999999999999999-x",
		string(forged), real + "A", real[:len(real)-1],
	} {
		w.log.since()
		l := refreshtest.Login{AccessToken: "x", RefreshToken: s, ExpiresAt: time.Now(), Scopes: []string{"s"}}
		err := w.publish(t, c, "web", file(t, l, nil))
		wantErr(t, err, policy.ErrDenied)
		if e := w.log.last(t); e.Outcome != audit.Denied || !strings.Contains(e.Reason, "surrogate of another tree") {
			t.Errorf("%s: got %+v", s, e)
		}
	}
}

// What a client writes changes its own tree, as far as it may, and never another one.
func TestPublish(t *testing.T) {
	blank := refreshtest.Login{Scopes: []string{"user:inference"}, ExpiresAt: time.UnixMilli(0)}
	for _, tt := range []struct {
		name    string
		content func(t testing.TB, w *world, read []byte) []byte
		want    error
		action  audit.Action
		outcome audit.Outcome
		in      bool   // still, or again, logged in
		others  string // shown afterwards
		own     bool   // with a login of the tree's own
	}{
		{
			"metadata", func(t testing.TB, _ *world, b []byte) []byte { return with(t, b, `{"x":1}`) },
			nil, audit.ActionAbsorb, audit.Allowed, true, `{"mcpOAuth":{"x":1}}`, false,
		},
		{"the same", func(_ testing.TB, _ *world, b []byte) []byte { return b }, nil, audit.ActionAbsorb, audit.Allowed, true, "{}", false},
		{
			"its access token spoilt", func(_ testing.TB, _ *world, b []byte) []byte {
				return bytes.Replace(b, []byte("oat01"), []byte("oat02"), 1)
			},
			nil, audit.ActionAbsorb, audit.Allowed, true, "{}", false,
		},
		{"access token alone", func(t testing.TB, w *world, _ []byte) []byte {
			l := w.srv.NewLogin()
			l.RefreshToken = ""
			return file(t, l, nil)
		}, nil, audit.ActionAbsorb, audit.Allowed, true, "{}", false},
		{
			"blank", func(t testing.TB, _ *world, _ []byte) []byte { return file(t, blank, map[string]any{"mcpOAuth": 1}) },
			nil, audit.ActionLogout, audit.Allowed, false, `{"mcpOAuth":1}`, false,
		},
		{
			"null", func(testing.TB, *world, []byte) []byte { return []byte(`{"claudeAiOauth":null}`) },
			nil, audit.ActionLogout, audit.Allowed, false, "{}", false,
		},
		{"empty object", func(testing.TB, *world, []byte) []byte { return []byte("{}") }, nil, audit.ActionLogout, audit.Allowed, false, "{}", false},
		{"garbage", func(testing.TB, *world, []byte) []byte { return []byte(`{"claudeAiOauth":{`) }, policy.ErrDenied, audit.ActionAbsorb, audit.Denied, true, "{}", false},
		{"nothing", func(testing.TB, *world, []byte) []byte { return nil }, policy.ErrDenied, audit.ActionAbsorb, audit.Denied, true, "{}", false},
		{"half a login", func(testing.TB, *world, []byte) []byte {
			return []byte(`{"claudeAiOauth":{"refreshToken":"sk-ant-ort01-x"}}`)
		}, policy.ErrDenied, audit.ActionAbsorb, audit.Denied, true, "{}", false},
		{"login", func(t testing.TB, w *world, _ []byte) []byte {
			return file(t, w.srv.NewLogin(), map[string]any{"mcpOAuth": 2})
		}, nil, audit.ActionCapture, audit.Allowed, true, `{"mcpOAuth":2}`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "shared")
			l := w.login(t, "default")
			c, other := w.container("web", "web"), w.container("other", "other")
			before := w.open(t, other, "other")
			content := tt.content(t, w, w.open(t, c, "web").Content)
			w.log.since()
			wantErr(t, w.publish(t, c, "web", content), tt.want)
			if e := w.log.last(t); e.Action != tt.action || e.Outcome != tt.outcome || e.Tree != "web" || e.Rule != "shared" || e.Container != w.subject(c).Container {
				t.Errorf("record %+v, want %s %s", e, tt.action, tt.outcome)
			}
			for _, when := range []string{"now", "after a restart"} {
				got := w.read(t, c, "web")
				if got.loggedIn != tt.in || got.others != tt.others || tt.in && (got.access != l.AccessToken) != tt.own {
					t.Errorf("%s: got %+v", when, got)
				}
				after := w.open(t, other, "other")
				if !bytes.Equal(after.Content, before.Content) || after.Stat != before.Stat {
					t.Errorf("%s: another tree's file changed", when)
				}
				w.restart(t)
			}
		})
	}
}

func TestUnlinkLogsThisTreeOut(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c, other := w.container("web", "web"), w.container("other", "other")
	text := bytes.Clone(w.open(t, c, "web").Content)
	w.log.since()
	wantErr(t, w.write(t, c, "web").Remove(t.Context()), nil)
	if e := w.log.last(t); e.Action != audit.ActionLogout || e.Outcome != audit.Allowed {
		t.Errorf("got %+v", e)
	}
	for range 2 {
		if _, err := w.Stat("web"); !errors.Is(err, iofs.ErrNotExist) {
			t.Errorf("got %v, want ErrNotExist", err)
		}
		if !w.read(t, other, "other").loggedIn {
			t.Error("another tree was logged out")
		}
		w.restart(t)
	}
	// What another client of the tree writes then is there, but a surrogate brings no login back.
	wantErr(t, w.publish(t, c, "web", with(t, text, `{"x":1}`)), nil)
	if _, err := w.Stat("web"); err != nil {
		t.Error(err)
	}
	if got := w.read(t, c, "web"); got.loggedIn || got.others != `{"mcpOAuth":{"x":1}}` {
		t.Errorf("got %+v", got)
	}
}

// "claude login" writes {} first and then the new object.
func TestLoginFlow(t *testing.T) {
	for _, first := range []string{"{}", "unlink"} {
		w := newWorld(t, "isolated", given)
		w.login(t, "default")
		c := w.container("web", "web")
		times := []time.Time{w.open(t, c, "web").ModTime}
		ch := w.write(t, c, "web")
		if first == "{}" {
			wantErr(t, ch.Publish(t.Context(), freshID(), []byte(first)), nil)
			times = append(times, w.open(t, c, "web").ModTime)
		} else {
			wantErr(t, ch.Remove(t.Context()), nil)
		}
		l := w.srv.NewLogin()
		wantErr(t, w.publish(t, c, "web", file(t, l, nil)), nil)
		for range 2 {
			s := w.open(t, c, "web")
			times = append(times, s.ModTime)
			if got := look(t, s.Content); got.access != l.AccessToken || !strings.HasPrefix(got.refresh, surrogatePrefix) {
				t.Errorf("%s: got %+v", first, got)
			}
			w.restart(t)
		}
		for i := range times[:len(times)-2] {
			if !times[i+1].After(times[i]) {
				t.Errorf("%s: times %v", first, times)
			}
		}
		if cr, _, err := w.vault.Load("web"); err != nil || !cr.RefreshToken.Equal(secret(l.RefreshToken)) || cr.State != vault.StateValid {
			t.Errorf("%s: the vault has %+v, %v", first, cr, err)
		}
		w.rotate(t, "web") // it is a whole login: it can be renewed
	}
}

func TestLoginDenied(t *testing.T) {
	w := newWorld(t, "  - {name: r, match: {container: {}}, allow: {level: shared, login: deny}}\n")
	l := w.login(t, "default")
	c := w.container("web", "web")
	wantErr(t, w.publish(t, c, "web", file(t, w.srv.NewLogin(), nil)), policy.ErrDenied)
	if e := w.log.last(t); e.Outcome != audit.Denied || !strings.Contains(e.Reason, "it is lost") {
		t.Errorf("got %+v", e)
	}
	if got := w.read(t, c, "web").access; got != l.AccessToken {
		t.Errorf("got %q", got)
	}
	if ids, _ := w.vault.Accounts(); len(ids) != 1 {
		t.Errorf("accounts %v", ids)
	}
}

// A login planted in one tree replaces nobody's: not the account that others use, nor one that happens to have the
// tree's name.
func TestPlantedLoginReplacesNobody(t *testing.T) {
	rule := "  - {name: r, match: {container: {}}, allow: {level: shared, account: work}}\n"
	for _, tt := range []struct {
		name, policy, tree string
		have               []vault.AccountID
		want               vault.AccountID
	}{
		{"shared", "shared", "web", []vault.AccountID{"default"}, "web"},
		{"tree named like the shared account", "shared", "default", []vault.AccountID{"default"}, "default.captured"},
		{"tree named like an operator's account", rule, "home", []vault.AccountID{"work", "home"}, "home.captured"},
		{"rule's account named like the tree", rule, "work", []vault.AccountID{"work"}, "work.captured"},
		{
			"a long name", "shared", strings.Repeat("n", 63),
			[]vault.AccountID{"default", vault.AccountID(strings.Repeat("n", 63))},
			vault.AccountID(strings.Repeat("n", 54) + ".captured"),
		},
		{"its own login again", "isolated", "web", []vault.AccountID{"web"}, "web"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.policy)
			logins := map[vault.AccountID]string{}
			for _, a := range tt.have {
				logins[a] = w.login(t, a).RefreshToken
			}
			c := w.container("c", tt.tree)
			planted := w.srv.NewLogin()
			wantErr(t, w.publish(t, c, tt.tree, file(t, planted, nil)), nil)
			if e := w.log.last(t); e.Action != audit.ActionCapture || e.Account != string(tt.want) {
				t.Errorf("got %+v, want account %s", e, tt.want)
			}
			for a, token := range logins {
				cr, _, err := w.vault.Load(a)
				if a != tt.want && (err != nil || !cr.RefreshToken.Equal(secret(token))) {
					t.Errorf("account %s was replaced (%v)", a, err)
				}
			}
			if got := w.read(t, c, tt.tree).access; got != planted.AccessToken {
				t.Errorf("the tree got %q, want its login", got)
			}
			// The next one replaces the tree's own.
			second := w.srv.NewLogin()
			wantErr(t, w.publish(t, c, tt.tree, file(t, second, nil)), nil)
			if cr, _, err := w.vault.Load(tt.want); err != nil || !cr.RefreshToken.Equal(secret(second.RefreshToken)) || cr.Generation < 2 {
				t.Errorf("second login: %+v %v", cr, err)
			}
		})
	}
}

// Fail closed: a change that cannot be recorded does not happen.
func TestChangeFailsClosedWithoutAudit(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	before := w.open(t, c, "web")
	ch := w.write(t, c, "web")
	full := errors.New("disk is full")
	w.log.fail(full)
	wantErr(t, ch.Publish(t.Context(), freshID(), []byte("{}")), full)
	wantErr(t, ch.Publish(t.Context(), freshID(), with(t, before.Content, "1")), full)
	wantErr(t, ch.Publish(t.Context(), freshID(), []byte("{")), full)
	wantErr(t, ch.Remove(t.Context()), full)
	w.log.fail(nil)
	if after := w.open(t, c, "web"); after.Stat != before.Stat {
		t.Errorf("got %+v, want %+v", after.Stat, before.Stat)
	}
}

func TestChangeWhileTheVaultIsLocked(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	text := bytes.Clone(w.open(t, c, "web").Content)
	w.vault.Lock()
	for _, b := range [][]byte{[]byte("{}"), with(t, text, "1"), file(t, w.srv.NewLogin(), nil)} {
		err := w.publish(t, c, "web", b)
		wantErr(t, err, vault.ErrLocked)
	}
	wantErr(t, w.write(t, c, "web").Remove(t.Context()), vault.ErrLocked)
	if got := w.open(t, c, "web"); !bytes.Equal(got.Content, text) {
		t.Error("the file changed")
	}
}

// freshID names a writing that never was.
func freshID() string { return strconv.FormatUint(rand.Uint64(), 16) }
