package broker_test

import (
	iofs "io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/refresh/refreshtest"
)

func TestLockRenews(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	before := w.open(t, c, "web")
	w.log.since()
	wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
	if e := w.log.last(t); e.Action != audit.ActionRefresh || e.Outcome != audit.Allowed || e.Account != "default" || e.Tree != "web" {
		t.Errorf("got %+v", e)
	}
	after, err := w.Stat("web")
	if err != nil || !after.ModTime.After(before.ModTime) || w.srv.Grants() != 1 || w.Busy("web") {
		t.Errorf("got %+v %v after %+v, %d grants", after, err, before.Stat, w.srv.Grants())
	}
}

// A newer token that the tree has not read yet is answer enough: nothing is renewed.
func TestLockWithUnreadToken(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	w.open(t, c, "web")
	w.rotate(t, "default")
	// Not even when the endpoint could give no more.
	w.srv.SetFault(refreshtest.Fault{Status: 429})
	for range 5 {
		wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
	}
	if got := len(w.srv.Requests()); got != 1 || w.Busy("web") {
		t.Errorf("%d requests, want 1", got)
	}
}

// A tree's new login is unread, however many tokens of another account it read before.
func TestLockAfterCapture(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	for range 3 {
		w.rotate(t, "default")
	}
	c := w.container("web", "web")
	w.open(t, c, "web")
	wantErr(t, w.publish(t, c, "web", file(t, w.srv.NewLogin(), nil)), nil)
	wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
	if got := w.srv.Grants(); got != 3 {
		t.Errorf("%d grants, want no new one", got)
	}
}

// After a restart nobody knows what the tree has read. The lock must not be given for a token that its client holds
// already: it would go on with the surrogate.
func TestLockAfterRestart(t *testing.T) {
	w := newWorld(t, "shared")
	w.login(t, "default")
	c := w.container("web", "web")
	before := w.read(t, c, "web").access
	time.Sleep(2 * time.Millisecond)
	w.restart(t)
	wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
	if got := w.read(t, c, "web").access; got == before {
		t.Error("the lock was given for the token that failed")
	}
}

func TestLockWhileTheEndpointFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "shared")
		w.login(t, "default")
		c := w.container("web", "web")
		w.open(t, c, "web")
		w.srv.SetFault(refreshtest.Fault{Status: 429})
		w.log.since()
		wantErr(t, w.Acquire(t.Context(), c, "web"), iofs.ErrExist)
		if e := w.log.last(t); e.Action != audit.ActionRefresh || e.Outcome != audit.Failed || !strings.Contains(e.Reason, "429") {
			t.Errorf("got %+v", e)
		}
		if !w.Busy("web") || w.Busy("other") {
			t.Errorf("busy: got %t and %t, want this tree alone", w.Busy("web"), w.Busy("other"))
		}
		// A newer token ends it, so does time.
		time.Sleep(19 * time.Second)
		if !w.Busy("web") {
			t.Error("no longer busy within the client's wait")
		}
		w.srv.SetFault(refreshtest.Fault{})
		w.rotate(t, "default")
		if w.Busy("web") {
			t.Error("busy although a newer token is there")
		}
		wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
		w.open(t, c, "web")
		w.srv.SetFault(refreshtest.Fault{Status: 429})
		wantErr(t, w.Acquire(t.Context(), c, "web"), iofs.ErrExist)
		time.Sleep(21 * time.Second)
		if w.Busy("web") {
			t.Error("busy for ever")
		}
	})
}

// One client that keeps failing does not rotate the others' token without end.
func TestLockRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "shared")
		w.login(t, "default")
		c, other := w.container("web", "web"), w.container("other", "other")
		for i := range 3 {
			w.open(t, c, "web")
			if err := w.Acquire(t.Context(), c, "web"); err != nil {
				t.Fatalf("renewal %d: %v", i, err)
			}
		}
		w.open(t, c, "web")
		w.log.since()
		wantErr(t, w.Acquire(t.Context(), c, "web"), iofs.ErrExist)
		if e := w.log.last(t); !strings.Contains(e.Reason, "3 renewals within 1m0s") {
			t.Errorf("got %+v", e)
		}
		if got := w.srv.Grants(); got != 3 || !w.Busy("web") {
			t.Errorf("%d grants, busy %t", got, w.Busy("web"))
		}
		// Other trees have an allowance of their own.
		w.open(t, other, "other")
		wantErr(t, w.Acquire(t.Context(), other, "other"), nil)
		w.open(t, c, "web")
		time.Sleep(time.Minute + time.Second)
		wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
		if got := w.srv.Grants(); got != 5 {
			t.Errorf("%d grants, want 5", got)
		}
	})
}

// In a tree without a login the lock is the client's own: it is about to make one.
func TestLockOfALoggedOutTree(t *testing.T) {
	w := newWorld(t, "shared")
	c := w.container("web", "web")
	wantErr(t, w.Acquire(t.Context(), c, "web"), nil) // no account at all
	w.login(t, "default")
	w.open(t, c, "web")
	wantErr(t, w.publish(t, c, "web", []byte("{}")), nil)
	w.open(t, c, "web")
	for range 5 {
		wantErr(t, w.Acquire(t.Context(), c, "web"), nil)
	}
	if got := w.srv.Grants(); got != 0 {
		t.Errorf("%d grants, want none", got)
	}
}
