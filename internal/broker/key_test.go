package broker_test

import (
	"errors"
	iofs "io/fs"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/vault"
)

const apiKey = "sk-ant-api03-0123456789-0123456789"

func (w *world) setKey(t *testing.T, id vault.AccountID) {
	t.Helper()
	a := accounts.Accounts{Vault: w.vault, Tokens: w.tokens, Audit: &recorder{}}
	if _, err := a.SetKey(t.Context(), id, []byte(apiKey+"\n")); err != nil {
		t.Fatal(err)
	}
}

// A tree whose rule gives a key has the key's file, no credential file, and settings that lead the client to the key.
func TestAPIKey(t *testing.T) {
	w := newWorld(t, allow("credential: api-key"))
	w.setKey(t, "default")
	c := w.container("web", "web")
	snap, err := w.OpenKey(t.Context(), c, "web")
	if err != nil || string(snap.Content) != apiKey+"\n" {
		t.Fatalf("got %v", err)
	}
	if st, err := w.KeyStat("web"); err != nil || st != snap.Stat || st.Size != int64(len(snap.Content)) {
		t.Errorf("stat %+v %v, opened %+v", st, err, snap.Stat)
	}
	if e := w.log.last(t); e.Action != audit.ActionRead || e.Outcome != audit.Allowed || e.Account != "default" || !strings.HasSuffix(e.Reason, "API key") {
		t.Errorf("recorded %+v", e)
	}
	if _, err := w.Stat("web"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("credential file: %v", err)
	}
	shown, err := w.Show("web", "settings.json", nil)
	if err != nil || !strings.Contains(string(shown), "apiKeyHelper") || strings.Contains(string(shown), apiKey) {
		t.Errorf("settings: %s %v", shown, err)
	}
	if kept, err := w.Keep("web", "settings.json", shown); err != nil || string(kept) != "{}\n" {
		t.Errorf("kept %s %v", kept, err)
	}
	if kept, err := w.Keep("web", "settings.json", []byte(`{"env":{"K":"`+apiKey+`"}}`)); err != nil || strings.Contains(string(kept), apiKey) {
		t.Errorf("kept %s %v", kept, err)
	}
	w.shows(t, ".claude.json", "{}", "{}")
	if err := w.Check("web", []byte("x "+apiKey)); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("the key may be written to a state file: %v", err)
	}
}

// Fail closed: a key is no access token, and an access token is no key.
func TestKindOfAccountFailsClosed(t *testing.T) {
	w := newWorld(t, allow("credential: api-key"))
	w.login(t, "default")
	c := w.container("web", "web")
	if _, err := w.OpenKey(t.Context(), c, "web"); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("a login as key: %v", err)
	}
	if e := w.log.last(t); e.Outcome != audit.Denied || !strings.Contains(e.Reason, "not of the kind") {
		t.Errorf("recorded %+v", e)
	}
	if st, err := w.KeyStat("web"); err != nil || st.Size != 0 {
		t.Errorf("stat %+v %v", st, err)
	}
	w = newWorld(t, allow("credential: oauth"))
	w.setKey(t, "default")
	c = w.container("web", "web")
	w.denied(t, c, "web", iofs.ErrPermission, "not of the kind")
	if _, err := w.OpenKey(t.Context(), c, "web"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("a key by a rule that gives none: %v", err)
	}
}

// What is explained is what comes.
func TestExplainKey(t *testing.T) {
	w := newWorld(t, allow("credential: api-key"))
	w.setKey(t, "default")
	c := w.container("web", "web")
	if e := w.Explain(t.Context(), c, "web"); !e.Allowed || e.Account != "default" {
		t.Errorf("explained as %+v", e)
	}
	w.SetPolicy(parse(t, allow("credential: none")))
	if e := w.Explain(t.Context(), c, "web"); e.Allowed || !strings.Contains(e.Reason, "gives no credential") {
		t.Errorf("explained as %+v", e)
	}
	w.SetPolicy(parse(t, allow("credential: oauth")))
	if e := w.Explain(t.Context(), c, "web"); e.Allowed || !strings.Contains(e.Reason, "not of the kind") {
		t.Errorf("explained as %+v", e)
	}
}

// Fail closed: a key has no end, so who has read it once does not go on reading it from a locked vault.
func TestKeyOfLockedVault(t *testing.T) {
	w := newWorld(t, allow("credential: api-key"))
	w.setKey(t, "default")
	c := w.container("web", "web")
	if _, err := w.OpenKey(t.Context(), c, "web"); err != nil {
		t.Fatal(err)
	}
	w.vault.Lock()
	if snap, err := w.OpenKey(t.Context(), c, "web"); snap != nil || !errors.Is(err, vault.ErrLocked) {
		t.Errorf("got %v %v, want ErrLocked", snap, err)
	}
	if st, err := w.KeyStat("web"); err != nil || st.Size != 0 {
		t.Errorf("stat %+v %v", st, err)
	}
	if e := w.Explain(t.Context(), c, "web"); e.Allowed || !strings.Contains(e.Reason, "locked") {
		t.Errorf("explained as %+v", e)
	}
}
