package broker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

// history is one tree under a random sequence of events, with what a client saw of it last.
type history struct {
	t      *testing.T // for what must work in any case
	rt     *rapid.T
	w      *world
	caller identity.Caller
	tree   string
	seen   fs.Stat
	text   []byte
	gone   bool
	inode  map[uint64][]byte // content by version
}

// account is the one that serves the tree: its own after a login was captured.
func (h *history) account() vault.AccountID {
	if _, _, err := h.w.vault.Load(vault.AccountID(h.tree)); err == nil {
		return vault.AccountID(h.tree)
	}
	return "default"
}

func (h *history) step() {
	w, t := h.w, h.t
	switch rapid.SampledFrom([]string{"rotate", "rotate back", "import", "others", "logout", "empty", "unlink", "login", "restart"}).Draw(h.rt, "step") {
	case "rotate":
		w.edit(t, h.account(), advance(w.srv.NewLogin(), time.Now()))
	case "rotate back": // while the clock was set back
		w.edit(t, h.account(), advance(w.srv.NewLogin(), time.Now().Add(-time.Hour)))
	case "import":
		w.login(t, h.account())
	case "others":
		n := rapid.SampledFrom([]int{1, 500, 3000}).Draw(h.rt, "length")
		if err := w.publish(t, h.caller, h.tree, with(t, h.text, fmt.Sprintf(`{"a":%q}`, strings.Repeat("x", n)))); err != nil {
			t.Fatal(err)
		}
	case "logout":
		blank := refreshtest.Login{Scopes: []string{"s"}, ExpiresAt: time.UnixMilli(0)}
		if err := w.publish(t, h.caller, h.tree, file(t, blank, nil)); err != nil {
			t.Fatal(err)
		}
	case "empty":
		if err := w.publish(t, h.caller, h.tree, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	case "unlink":
		if err := w.write(t, h.caller, h.tree).Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	case "login":
		if err := w.publish(t, h.caller, h.tree, file(t, w.srv.NewLogin(), nil)); err != nil {
			t.Fatal(err)
		}
	case "restart":
		w.restart(t)
	}
}

// advance replaces the tokens, as a rotation does.
func advance(l refreshtest.Login, now time.Time) func(*vault.Credential) {
	return func(c *vault.Credential) {
		prev := *c
		c.AccessToken, c.RefreshToken, c.ExpiresAt = secret(l.AccessToken), secret(l.RefreshToken), l.ExpiresAt
		c.Advance(&prev, now)
	}
}

// check looks at the file as a client does: stat, then open.
func (h *history) check() {
	t := h.rt
	st, err := h.w.Stat(h.tree)
	if errors.Is(err, iofs.ErrNotExist) {
		h.gone = true
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	snap, err := h.w.Open(h.t.Context(), h.caller, h.tree)
	if err != nil {
		t.Fatal(err)
	}
	if snap.Stat != st {
		t.Fatalf("open: %+v, stat: %+v", snap.Stat, st)
	}
	if again, err := h.w.Stat(h.tree); err != nil || again != st {
		t.Fatalf("stat after open: %+v %v, before: %+v", again, err, st)
	}
	if int64(len(snap.Content)) != st.Size || st.Size%credfile.SizeClass != 0 || st.Size == 0 || !json.Valid(snap.Content) {
		t.Fatalf("size %d, content has %d bytes", st.Size, len(snap.Content))
	}
	changed := !bytes.Equal(snap.Content, h.text)
	switch {
	case h.text == nil:
	case changed && !st.ModTime.After(h.seen.ModTime.Add(time.Millisecond-1)):
		t.Fatalf("content changed, time went from %v to %v", h.seen.ModTime, st.ModTime)
	case !changed && !h.gone && st.ModTime != h.seen.ModTime:
		t.Fatalf("content stays, time went from %v to %v", h.seen.ModTime, st.ModTime)
	case !h.gone && changed != (st.Version != h.seen.Version):
		t.Fatalf("content changed: %t; version went from %d to %d", changed, h.seen.Version, st.Version)
	}
	if old, ok := h.inode[st.Version]; ok && !bytes.Equal(old, snap.Content) {
		t.Fatalf("version %d came again with another content", st.Version)
	}
	h.inode[st.Version] = bytes.Clone(snap.Content)
	h.seen, h.text, h.gone = st, bytes.Clone(snap.Content), false
}

// Whatever happens, stat and open agree, each content has its own version and a later time, and a restart shows
// nothing.
func TestFileProperties(t *testing.T) {
	w := newWorld(t, "isolated", given)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		tree := fmt.Sprintf("web-%d", n)
		w.login(t, "default")
		if _, err := w.StateDir(tree); err != nil {
			rt.Fatal(err)
		}
		h := &history{t: t, rt: rt, w: w, caller: w.container(tree, tree), tree: tree, inode: map[uint64][]byte{}}
		h.check()
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			h.step()
			h.check()
		}
	})
}

// An account that was removed and made anew counts from 1 again; its tokens are other ones all the same.
func TestVersionOfAnAccountMadeAnew(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	before := w.open(t, c, "web").Stat
	if err := w.vault.Remove("default"); err != nil {
		t.Fatal(err)
	}
	w.tokens.Retry("default")
	time.Sleep(2 * time.Millisecond)
	l := w.login(t, "default")
	after := w.open(t, c, "web")
	if after.Version == before.Version || !after.ModTime.After(before.ModTime) {
		t.Errorf("got %+v, before %+v", after.Stat, before)
	}
	if err := w.Check("web", []byte(l.AccessToken)); err == nil {
		t.Error("its token is not screened for")
	}
}

// A file that Open will refuse is described all the same: one that came and went would log clients out.
func TestStatWithoutLogin(t *testing.T) {
	for _, p := range []string{"shared", "isolated"} {
		w := newWorld(t, p)
		st, err := w.Stat("web")
		if err != nil || st.Size != credfile.SizeClass || st.ModTime.UnixMilli() == 0 {
			t.Errorf("%s: got %+v, %v", p, st, err)
		}
	}
}

func TestStatOfDamagedDocument(t *testing.T) {
	w := newWorld(t, "shared")
	if _, err := w.vault.StoreDocument("web", secret(`{"version":2}`), vault.Version{}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Stat("web")
	wantErr(t, err, vault.ErrCorrupt)
}
