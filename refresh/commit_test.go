package refresh_test

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

// refuse lets the store refuse records that carry new tokens, with placed as for memory.fail.
func refuse(placed bool, err error) func(*vault.Credential) (bool, error) {
	return func(c *vault.Credential) (bool, error) {
		if c.Generation > 1 {
			return placed, err
		}
		return false, nil
	}
}

// A store that takes no intent takes no tokens either: nothing is sent.
func TestNoIntentNoGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.store.setFault(nil, func(*vault.Credential) (bool, error) { return false, syscall.ENOSPC })
		_, err := e.r.Force(t.Context(), account)
		wantErr(t, err, syscall.ENOSPC)
		e.wantPosts(t, 0)
		if c, err := e.r.Token(t.Context(), account); err != nil || c.Generation != 1 {
			t.Errorf("the old token: %v", err)
		}
	})
}

// The intent is in the vault before the request is on its way.
func TestIntentPrecedesRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.srv.SetFault(refreshtest.Fault{Delay: time.Second})
		go func() { _, _ = e.r.Force(t.Context(), account) }()
		synctest.Wait()
		if c := e.store.record(account); c.Intent == nil || c.Generation != 1 {
			t.Error("no intent while the request is under way")
		}
		time.Sleep(2 * time.Second)
		if c := e.store.record(account); c.Intent != nil || c.Generation != 2 {
			t.Error("intent stays after the commit")
		}
	})
}

// The new token is served only when it is durable, and the store is asked again until it is.
func TestCommitBeforeServe(t *testing.T) {
	for name, placed := range map[string]bool{"refused": false, "in place, not synced": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, refreshtest.Config{RevokeFamily: true}, nil)
				e.expire()
				e.store.setFault(nil, refuse(placed, syscall.EIO))
				c, err := e.r.Token(t.Context(), account)
				wantErr(t, err, refresh.ErrSlow)
				if c != nil || len(e.reported()) != 0 {
					t.Fatal("served or reported before it is durable")
				}
				time.Sleep(30 * time.Second)
				e.wantPosts(t, 1)
				e.store.setFault(nil, nil)
				time.Sleep(6 * time.Second)
				c, err = e.r.Token(t.Context(), account)
				if err != nil || c.Generation != 2 || !e.srv.Active(string(c.AccessToken.Reveal())) {
					t.Errorf("got %v, want the committed token", err)
				}
				if evs := e.reported(); len(evs) != 1 || evs[0].Err != nil {
					t.Errorf("events: got %v, want one success", evs)
				}
				e.wantPosts(t, 1)
			})
		})
	}
}

// A store that stays broken for longer than a flight lasts does not cost the login: the next flight commits what the
// first one got, and sends nothing.
func TestLateCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{RevokeFamily: true}, nil)
		e.store.setFault(nil, refuse(false, syscall.ENOSPC))
		_, err := e.r.Force(t.Context(), account)
		wantErr(t, err, syscall.ENOSPC)
		_, err = e.r.Force(t.Context(), account)
		wantErr(t, err, syscall.ENOSPC)
		e.store.setFault(nil, nil)
		c, err := e.r.Force(t.Context(), account)
		if err != nil || c.Generation != 2 || !e.srv.Alive(string(c.RefreshToken.Reveal())) {
			t.Errorf("got %v, want the token of the first grant", err)
		}
		e.wantPosts(t, 1)
		if c, err = e.r.Force(t.Context(), account); err != nil || c.Generation != 3 {
			t.Errorf("next grant: %v", err)
		}
		e.wantPosts(t, 2)
	})
}

// A login that was stored during the grant is newer than the grant, and stays.
func TestLoginDuringGrant(t *testing.T) {
	for name, remove := range map[string]bool{"new login": false, "account removed": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, refreshtest.Config{}, nil)
				e.srv.SetFault(refreshtest.Fault{Delay: time.Second, Times: 1})
				done := make(chan error)
				go func() { _, err := e.r.Force(t.Context(), account); done <- err }()
				synctest.Wait()
				e.store.mu.Lock()
				next := credential(account, e.srv.NewLogin())
				next.Generation = 2
				e.store.records[account] = *next
				if remove {
					delete(e.store.records, account)
				}
				e.store.version++
				e.store.mu.Unlock()
				begun := time.Now()
				wantErr(t, <-done, vault.ErrConflict)
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("tried for %v to store what nobody wants", took)
				}
				if got := e.store.record(account); !remove && !got.AccessToken.Equal(next.AccessToken) {
					t.Error("the new login was overwritten")
				} else if remove && got.Account != "" {
					t.Error("the removed account came back")
				}
			})
		})
	}
}

// An intent that an earlier process left means that the grant is in doubt: the same token is sent again at once, while
// the access token in hand is still served.
func TestIntentAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{RevokeFamily: true}, nil)
		e.change(func(c *vault.Credential) { c.Intent = &vault.Intent{ID: "1", At: time.Now()} })
		c, err := e.r.Token(t.Context(), account)
		if err != nil || c.Generation != 1 {
			t.Errorf("got %v, want the token in hand", err)
		}
		synctest.Wait()
		e.wantPosts(t, 1)
		if got, want := e.srv.Requests()[0].RefreshToken, e.login.RefreshToken; got != want {
			t.Error("another refresh token was sent")
		}
		if c := e.store.record(account); c.Intent != nil || c.Generation != 2 {
			t.Error("the doubt stays")
		}
	})
}

// A doubt is settled by the server's word alone: that we are offline or throttled now tells nothing of the request
// that was lost.
func TestDoubtStays(t *testing.T) {
	for name, tc := range map[string]struct {
		intent bool
		faults []refreshtest.Fault
	}{
		"offline after a crash":   {true, []refreshtest.Fault{{Status: 429}}},
		"throttled after a 500":   {false, []refreshtest.Fault{{Status: 500, Times: 1}, {Status: 429}}},
		"invalid client in doubt": {true, []refreshtest.Fault{{Status: 401, Body: `{"error":"invalid_client"}`}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, refreshtest.Config{}, nil)
				if tc.intent {
					e.change(func(c *vault.Credential) { c.Intent = &vault.Intent{ID: "1", At: time.Now()} })
				}
				e.srv.SetFault(tc.faults[0])
				if len(tc.faults) > 1 {
					time.AfterFunc(50*time.Millisecond, func() { e.srv.SetFault(tc.faults[1]) })
				}
				if _, err := e.r.Force(t.Context(), account); err == nil {
					t.Fatal("got no error")
				}
				if c := e.store.record(account); c.Intent == nil || c.State != vault.StateValid {
					t.Errorf("got state %s and intent %v, want a valid login in doubt", c.State, c.Intent)
				}
			})
		})
	}
}

// The refusal of a token that was in doubt settles the doubt.
func TestDoubtEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.change(func(c *vault.Credential) { c.Intent = &vault.Intent{ID: "1", At: time.Now()} })
		e.srv.Spend(e.login.RefreshToken) // what the earlier process did before it died
		_, err := e.r.Force(t.Context(), account)
		wantErr(t, err, refresh.ErrLoginRequired)
		if c := e.store.record(account); c.Intent != nil || c.State != vault.StateDead {
			t.Errorf("got state %s and intent %v, want a dead login without doubt", c.State, c.Intent)
		}
	})
}

// An answer is lost: the same token is sent again at once, which a server with a grace forgives.
func TestLostAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		server refreshtest.Config
		drop   string
		lost   bool
	}{
		"before the server acts":     {refreshtest.Config{RevokeFamily: true}, "before", false},
		"after, with a grace":        {refreshtest.Config{RevokeFamily: true, Grace: 10 * time.Second}, "after", false},
		"after, on a strict server":  {refreshtest.Config{RevokeFamily: true}, "after", true},
		"after, on a lenient server": {refreshtest.Config{}, "after", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, tc.server, nil)
				e.srv.SetFault(refreshtest.Fault{Drop: tc.drop, Times: 1})
				start := time.Now()
				c, err := e.r.Force(t.Context(), account)
				if got := errors.Is(err, refresh.ErrLoginRequired); got != tc.lost {
					t.Fatalf("got %v, lost: want %t", err, tc.lost)
				}
				if err == nil && !e.srv.Alive(string(c.RefreshToken.Reveal())) {
					t.Error("the token is not the server's")
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("sent again after %v, want within the second that servers forgive", took)
				}
				for _, r := range e.srv.Requests() {
					if r.RefreshToken != e.login.RefreshToken {
						t.Error("another token was sent")
					}
				}
				e.wantPosts(t, 2)
			})
		})
	}
}
