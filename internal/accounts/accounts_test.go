package accounts_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type recorder struct {
	mu     sync.Mutex
	events []audit.Event
	err    error
}

func (r *recorder) Record(e audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.events = append(r.events, e)
	}
	return r.err
}

type world struct {
	*accounts.Accounts
	srv *refreshtest.Server
	log *recorder
	dir string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{srv: refreshtest.New(refreshtest.Config{}), log: &recorder{}, dir: t.TempDir() + "/vault"}
	v, _, err := vault.Create(t.Context(), vault.Config{
		Dir: w.dir, ScryptWorkFactor: 10,
		Passphrase: func(context.Context) (vault.Secret, error) { return vault.NewSecret([]byte("correct horse")), nil },
	}, vault.BackendPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	w.Accounts = &accounts.Accounts{Vault: v, Audit: w.log}
	w.start(t)
	return w
}

// start gives the world a refresher that remembers nothing.
func (w *world) start(t *testing.T) {
	t.Helper()
	r, err := refresh.New(refresh.Config{
		Store: w.Vault, TokenURL: "https://as.test/token", ClientID: "c",
		Transport: w.srv.Transport(), OnGrant: accounts.RecordGrants(w.log),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Tokens = r
}

func (w *world) file(t *testing.T) (refreshtest.Login, []byte) {
	t.Helper()
	l := w.srv.NewLogin()
	b, err := json.Marshal(l.File())
	if err != nil {
		t.Fatal(err)
	}
	return l, b
}

func (w *world) add(t *testing.T, id vault.AccountID) (refreshtest.Login, accounts.Info) {
	t.Helper()
	l, b := w.file(t)
	i, err := w.Import(t.Context(), id, b)
	if err != nil {
		t.Fatal(err)
	}
	return l, i
}

func (w *world) edit(t *testing.T, id vault.AccountID, f func(*vault.Credential)) {
	t.Helper()
	c, version, err := w.Vault.Load(id)
	if err == nil {
		f(c)
		_, err = w.Vault.Store(c, version)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestImportListShowRemove(t *testing.T) {
	w := newWorld(t)
	if got, err := w.List(); err != nil || got == nil || len(got) != 0 {
		t.Errorf("empty vault: got %v %v, want an empty list", got, err)
	}
	_, err := w.Show("work")
	wantErr(t, err, vault.ErrNotFound)
	before := time.Now().Truncate(time.Millisecond)
	l, got := w.add(t, "work")
	if got.RotatedAt.Before(before) || got.RotatedAt.After(time.Now()) {
		t.Errorf("rotated at %v", got.RotatedAt)
	}
	want := accounts.Info{
		Name: "work", State: "valid", ExpiresAt: time.UnixMilli(l.ExpiresAt.UnixMilli()), RotatedAt: got.RotatedAt,
		Generation: 1, Refreshable: true, Scopes: l.Scopes, SubscriptionType: "max", RateLimitTier: "default_claude_max_5x",
		Token: vault.NewSecret([]byte(l.AccessToken)).Fingerprint(),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	shown, err := w.Show("work")
	if d := cmp.Diff(got, shown); d != "" || err != nil {
		t.Errorf("show: %v %s", err, d)
	}
	w.add(t, "home")
	list, err := w.List()
	if err != nil || len(list) != 2 || list[0].Name != "home" || list[1].Name != "work" {
		t.Errorf("list: %+v %v", list, err)
	}
	if b, err := json.Marshal(list); err != nil || strings.Contains(string(b), "sk-ant") {
		t.Errorf("a listing shows tokens: %s %v", b, err)
	}
	wantErr(t, w.Remove(t.Context(), "work"), nil)
	wantErr(t, w.Remove(t.Context(), "work"), vault.ErrNotFound)
	_, err = w.Tokens.Current("work")
	wantErr(t, err, vault.ErrNotFound)
	var log []audit.Event
	for _, e := range w.log.events {
		log = append(log, audit.Event{Action: e.Action, Outcome: e.Outcome, Account: e.Account, Reason: e.Reason})
	}
	rec := func(account, reason string) audit.Event {
		return audit.Event{Action: audit.ActionAccounts, Outcome: audit.Allowed, Account: account, Reason: reason}
	}
	if d := cmp.Diff([]audit.Event{rec("work", "imported"), rec("home", "imported"), rec("work", "removed")}, log); d != "" {
		t.Error(d)
	}
}

func TestImportRefuses(t *testing.T) {
	w := newWorld(t)
	_, good := w.file(t)
	for _, tt := range []struct {
		id   vault.AccountID
		file string
		want error
	}{
		{"work", "", credfile.ErrSyntax},
		{"work", "{}", credfile.ErrSyntax},
		{"work", `{"claudeAiOauth":{"refreshToken":"r","scopes":["s"]}}`, credfile.ErrSyntax},
		{"work", strings.Repeat(" ", credfile.MaxSize) + string(good), credfile.ErrSyntax},
		{"../work", string(good), nil},
		{"", string(good), nil},
	} {
		if _, err := w.Import(t.Context(), tt.id, []byte(tt.file)); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%q: got %v, want %v", tt.id, err, tt.want)
		}
	}
	if ids, err := w.Vault.Accounts(); len(ids) != 0 || err != nil || len(w.log.events) != 0 {
		t.Errorf("accounts %v %v, records %v", ids, err, w.log.events)
	}
}

func TestStates(t *testing.T) {
	w := newWorld(t)
	for id, f := range map[vault.AccountID]func(*vault.Credential){
		"expired": func(c *vault.Credential) { c.ExpiresAt = time.Now().Add(-time.Minute) },
		"dead":    func(c *vault.Credential) { c.State, c.Why = vault.StateDead, "invalid_grant" },
		"hold":    func(c *vault.Credential) { c.State, c.Why = vault.StateHold, "see page" },
		"static":  func(c *vault.Credential) { c.RefreshToken = vault.Secret{} },
		"doubt":   func(c *vault.Credential) { c.Intent = &vault.Intent{ID: "x", At: time.Now()} },
		"valid":   func(*vault.Credential) {},
	} {
		w.add(t, id)
		w.edit(t, id, f)
	}
	if err := os.WriteFile(w.dir+"/accounts/broken.sealed", []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	state := func() map[string]string {
		out := map[string]string{}
		list, err := w.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range list {
			out[i.Name] = i.State
			if i.Refreshable == (i.Name == "static") && i.State != "damaged" && i.State != "locked" || i.InDoubt != (i.Name == "doubt" && i.State == "valid") {
				t.Errorf("got %+v", i)
			}
		}
		return out
	}
	want := map[string]string{"expired": "expired", "dead": "dead", "hold": "hold", "static": "valid", "doubt": "valid", "valid": "valid", "broken": "damaged"}
	if d := cmp.Diff(want, state()); d != "" {
		t.Error(d)
	}
	// A locked vault still tells the names; a daemon that remembers the tokens tells more.
	w.Vault.Lock()
	want["broken"] = "locked"
	if d := cmp.Diff(want, state()); d != "" {
		t.Errorf("locked, remembered: %s", d)
	}
	w.start(t)
	for name := range want {
		want[name] = "locked"
	}
	if d := cmp.Diff(want, state()); d != "" {
		t.Errorf("locked: %s", d)
	}
	_, file := w.file(t)
	_, err := w.Import(t.Context(), "new", file)
	wantErr(t, err, vault.ErrLocked)
	_, err = w.Refresh(t.Context(), "valid", true)
	wantErr(t, err, vault.ErrLocked)
	wantErr(t, w.Remove(t.Context(), "valid"), nil) // it needs no key
}

// A damaged record is not overwritten; it can be removed.
func TestDamagedRecord(t *testing.T) {
	w := newWorld(t)
	w.add(t, "work")
	path := w.dir + "/accounts/work.sealed"
	if err := os.WriteFile(path, []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	_, file := w.file(t)
	_, err := w.Import(t.Context(), "work", file)
	wantErr(t, err, vault.ErrCorrupt)
	if b, _ := os.ReadFile(path); string(b) != "damage" {
		t.Error("the damaged record was overwritten")
	}
	wantErr(t, w.Remove(t.Context(), "work"), nil)
	_, err = w.Import(t.Context(), "work", file)
	wantErr(t, err, nil)
}

// A new login goes on counting and is later than the one before; it ends an earlier failure.
func TestImportOverExisting(t *testing.T) {
	w := newWorld(t)
	_, first := w.add(t, "work")
	w.edit(t, "work", func(c *vault.Credential) {
		c.State, c.Why, c.RotatedAt = vault.StateDead, "invalid_grant", c.RotatedAt.Add(time.Hour)
	})
	_, second := w.add(t, "work")
	if second.Generation != 2 || second.State != "valid" || second.Why != "" || !second.RotatedAt.After(first.RotatedAt.Add(time.Hour)) {
		t.Errorf("got %+v after %+v", second, first)
	}
	if got, err := w.Refresh(t.Context(), "work", true); err != nil || got.Generation != 3 {
		t.Errorf("refresh: %+v %v", got, err)
	}
}

func TestConcurrentImports(t *testing.T) {
	w := newWorld(t)
	const n = 8
	var wg sync.WaitGroup
	for range n {
		_, file := w.file(t)
		wg.Go(func() {
			if _, err := w.Import(t.Context(), "work", file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := w.Show("work"); err != nil || got.Generation != n || len(w.log.events) != n {
		t.Errorf("got %+v %v, want generation %d", got, err, n)
	}
}

func TestImportIsInterrupted(t *testing.T) {
	w := newWorld(t)
	release, err := w.Vault.Exclusive(t.Context(), "work")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, file := w.file(t)
	_, err = w.Import(ctx, "work", file)
	wantErr(t, err, context.DeadlineExceeded)
	wantErr(t, w.Remove(ctx, "work"), context.DeadlineExceeded)
}

// What an operator does and the log cannot take is an error, never a silent success.
func TestAuditFailure(t *testing.T) {
	w := newWorld(t)
	w.add(t, "work")
	w.log.err = errors.New("disk is full")
	_, file := w.file(t)
	_, err := w.Import(t.Context(), "work", file)
	wantErr(t, err, w.log.err)
	_, err = w.Refresh(t.Context(), "work", true)
	wantErr(t, err, w.log.err)
	wantErr(t, w.Remove(t.Context(), "work"), w.log.err)
}

func TestRefresh(t *testing.T) {
	w := newWorld(t)
	_, err := w.Refresh(t.Context(), "work", false)
	wantErr(t, err, vault.ErrNotFound)
	l, _ := w.add(t, "work")
	w.log.events = nil
	if got, err := w.Refresh(t.Context(), "work", false); err != nil || got.Generation != 1 || w.srv.Grants() != 0 {
		t.Errorf("not due: %+v %v", got, err)
	}
	got, err := w.Refresh(t.Context(), "work", true)
	if err != nil || got.Generation != 2 || w.srv.Grants() != 1 || w.srv.Active(l.AccessToken) {
		t.Errorf("forced: %+v %v", got, err)
	}
	if e := w.log.events; len(e) != 1 || e[0].Action != audit.ActionRotate || e[0].Outcome != audit.Allowed || e[0].Generation != 2 || e[0].ExpiresAt == nil {
		t.Errorf("records %+v", e)
	}
	w.log.events = nil
	w.srv.SetFault(refreshtest.Fault{Status: 429})
	if _, err := w.Refresh(t.Context(), "work", true); err == nil {
		t.Error("no error although the endpoint refused")
	}
	if i, err := w.Show("work"); err != nil || i.State != "valid" || !strings.Contains(i.Why, "429") || i.RetryAt.IsZero() {
		t.Errorf("got %+v %v", i, err)
	}
	if e := w.log.events; len(e) != 1 || e[0].Outcome != audit.Failed || !strings.Contains(e[0].Reason, "429") {
		t.Errorf("records %+v", e)
	}
	w.srv.SetFault(refreshtest.Fault{})
	w.edit(t, "work", func(c *vault.Credential) { c.RefreshToken = vault.Secret{} })
	_, err = w.Refresh(t.Context(), "work", true)
	wantErr(t, err, refresh.ErrStatic)
	w.edit(t, "work", func(c *vault.Credential) { c.State, c.Why = vault.StateDead, "invalid_grant" })
	_, err = w.Refresh(t.Context(), "work", true)
	wantErr(t, err, refresh.ErrLoginRequired)
}
