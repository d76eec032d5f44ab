package refresh_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

func TestNewRefuses(t *testing.T) {
	good := refresh.Config{Store: newMemory(), TokenURL: tokenURL, ClientID: clientID}
	for name, change := range map[string]func(*refresh.Config){
		"no store":         func(c *refresh.Config) { c.Store = nil },
		"no URL":           func(c *refresh.Config) { c.TokenURL = "" },
		"no host":          func(c *refresh.Config) { c.TokenURL = "/token" },
		"broken URL":       func(c *refresh.Config) { c.TokenURL = "http://a b/\x00" },
		"no client":        func(c *refresh.Config) { c.ClientID = "" },
		"unknown encoding": func(c *refresh.Config) { c.Encoding = "xml" },
	} {
		cfg := good
		change(&cfg)
		if _, err := refresh.New(cfg); err == nil {
			t.Errorf("%s: got a refresher", name)
		}
	}
}

func TestFreshTokenNeedsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		got, err := e.r.Token(t.Context(), account)
		if err != nil || string(got.AccessToken.Reveal()) != e.login.AccessToken {
			t.Errorf("got another token, %v", err)
		}
		synctest.Wait()
		e.wantPosts(t, 0)
		_, err = e.r.Token(t.Context(), "missing")
		wantErr(t, err, vault.ErrNotFound)
	})
}

func TestOneGrantForManyReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{RevokeFamily: true}, nil)
		e.expire()
		e.srv.SetFault(refreshtest.Fault{Delay: 300 * time.Millisecond})
		tokens := make([]string, 100)
		var wg sync.WaitGroup
		for i := range tokens {
			wg.Go(func() {
				c, err := e.r.Token(t.Context(), account)
				if err != nil {
					t.Errorf("reader %d: %v", i, err)
					return
				}
				tokens[i] = string(c.AccessToken.Reveal())
			})
		}
		wg.Wait()
		for i, got := range tokens {
			if got != tokens[0] || !e.srv.Active(got) {
				t.Errorf("reader %d got another token than the first, or a dead one", i)
			}
		}
		e.wantPosts(t, 1)
	})
}

// Every reader gives up; the grant goes on, and the next reader finds its token.
func TestCancelledReaderLeavesGrantAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{RevokeFamily: true}, nil)
		e.expire()
		e.srv.SetFault(refreshtest.Fault{Delay: 500 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := e.r.Token(ctx, account)
		wantErr(t, err, context.DeadlineExceeded)
		if got, want := time.Since(start), 100*time.Millisecond; got != want {
			t.Errorf("reader waited %v, want %v", got, want)
		}
		time.Sleep(time.Second)
		c, err := e.r.Token(t.Context(), account)
		if err != nil || c.Generation != 2 || !e.srv.Active(string(c.AccessToken.Reveal())) {
			t.Errorf("got %v, want the token of the grant", err)
		}
		e.wantPosts(t, 1)
	})
}

func TestValidTokenIsServedWhileEndpointHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{KeepOld: true}, nil)
		e.srv.SetFault(refreshtest.Fault{Delay: time.Hour})
		time.Sleep(7*time.Hour + 55*time.Minute)
		start := time.Now()
		for range 3 {
			c, err := e.r.Token(t.Context(), account)
			if err != nil || string(c.AccessToken.Reveal()) != e.login.AccessToken {
				t.Errorf("got another token, %v", err)
			}
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("waited %v for a token that is still valid", got)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		_, err := e.r.Current(account)
		wantErr(t, err, nil)
	})
}

// Without a valid token a reader waits for a grant one second, no longer.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.expire()
		e.srv.SetFault(refreshtest.Fault{Delay: 5 * time.Second})
		start := time.Now()
		_, err := e.r.Token(t.Context(), account)
		wantErr(t, err, refresh.ErrSlow)
		if got, want := time.Since(start), time.Second; got != want {
			t.Errorf("waited %v, want %v", got, want)
		}
		time.Sleep(5 * time.Second)
		if c, err := e.r.Token(t.Context(), account); err != nil || c.Generation != 2 {
			t.Errorf("after the grant: %v", err)
		}
		e.wantPosts(t, 1)
	})
}

// A token is renewed 10 minutes before its end, or when a fifth of a short life is left.
func TestWindow(t *testing.T) {
	for _, tc := range []struct {
		lifetime, window, left time.Duration // left: when the grant begins
	}{
		{8 * time.Hour, 0, 10 * time.Minute},
		{8 * time.Hour, 30 * time.Minute, 30 * time.Minute},
		{50 * time.Minute, 0, 10 * time.Minute},
		{49 * time.Minute, 0, 49 * time.Minute / 5},
		{time.Minute, 0, 12 * time.Second},
		{time.Minute, 30 * time.Minute, 12 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newEnv(t, refreshtest.Config{Lifetime: tc.lifetime}, func(c *refresh.Config) { c.Window = tc.window })
			time.Sleep(tc.lifetime - tc.left - time.Millisecond)
			if _, err := e.r.Token(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			e.wantPosts(t, 0)
			time.Sleep(2 * time.Millisecond)
			if _, err := e.r.Token(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			e.wantPosts(t, 1)
			c := e.store.record(account)
			if got, want := c.Lifetime(), tc.lifetime; got != want {
				t.Errorf("%v: lifetime of the next token: got %v, want %v", tc.lifetime, got, want)
			}
		})
	}
}

// What a rotation leaves in the vault, down to the times that readers see.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		before := e.store.record(account)
		time.Sleep(7*time.Hour + 55*time.Minute)
		got, err := e.r.Force(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		want := before
		want.AccessToken, want.RefreshToken = got.AccessToken, got.RefreshToken
		want.Generation, want.IssuedAt, want.ExpiresAt = 2, now, now.Add(8*time.Hour).Round(0)
		want.RotatedAt = now.Truncate(time.Millisecond)
		for name, c := range map[string]vault.Credential{"returned": *got, "in the vault": e.store.record(account)} {
			if diff := cmp.Diff(want, c); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
		if !e.srv.Active(string(got.AccessToken.Reveal())) || !e.srv.Alive(string(got.RefreshToken.Reveal())) {
			t.Error("the server does not know the tokens")
		}
		wantEvents := []refresh.Event{{Account: account, Generation: 2, ExpiresAt: want.ExpiresAt}}
		if diff := cmp.Diff(wantEvents, e.reported()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// Renew is for a reader whose token does not work: it gets a newer one, the vault's when there is one.
func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		for range 3 {
			if c, err := e.r.Renew(t.Context(), account, 1); err != nil || c.Generation != 2 {
				t.Fatalf("got %v, want generation 2", err)
			}
		}
		e.wantPosts(t, 1)
		if c, err := e.r.Renew(t.Context(), account, 2); err != nil || c.Generation != 3 {
			t.Fatalf("got %v, want generation 3", err)
		}
		e.wantPosts(t, 2)
	})
}

func TestStaticToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.change(func(c *vault.Credential) { c.RefreshToken = vault.Secret{} })
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Error(err)
		}
		_, err := e.r.Renew(t.Context(), account, 1)
		wantErr(t, err, refresh.ErrStatic)
		_, err = e.r.Force(t.Context(), account)
		wantErr(t, err, refresh.ErrStatic)
		e.change(func(c *vault.Credential) { c.ExpiresAt = time.Time{} }) // "claude setup-token" names no end
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Error(err)
		}
		e.wantPosts(t, 0)
	})
}

// A record without an access token is not fresh, whatever its times say.
func TestNoAccessToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.change(func(c *vault.Credential) { c.AccessToken = vault.Secret{} })
		c, err := e.r.Token(t.Context(), account)
		if err != nil || c.AccessToken.IsZero() {
			t.Errorf("got no token, %v", err)
		}
		e.wantPosts(t, 1)
	})
}

// While the vault is locked the last good token is served until it ends, and nothing is sent.
func TestLockedVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.store.setFault(vault.ErrLocked, nil)
		_, err := e.r.Token(t.Context(), account)
		wantErr(t, err, vault.ErrLocked)
		e.store.setFault(nil, nil)
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		e.store.setFault(vault.ErrLocked, nil)
		time.Sleep(7*time.Hour + 59*time.Minute)
		if c, err := e.r.Token(t.Context(), account); err != nil || string(c.AccessToken.Reveal()) != e.login.AccessToken {
			t.Errorf("locked, still valid: got %v, want the token known", err)
		}
		time.Sleep(time.Minute)
		_, err = e.r.Token(t.Context(), account)
		wantErr(t, err, vault.ErrLocked)
		e.wantPosts(t, 0)
		e.store.setFault(nil, nil)
		if c, err := e.r.Token(t.Context(), account); err != nil || c.Generation != 2 {
			t.Errorf("unlocked: %v", err)
		}
	})
}

// Fail closed: a rotation that cannot be audited is kept, and not served by the flight that made it.
func TestVetoHoldsTokenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.expire()
		e.veto = errors.New("audit log is full")
		c, err := e.r.Token(t.Context(), account)
		wantErr(t, err, e.veto)
		if c != nil {
			t.Error("the token was served")
		}
		kept := e.store.record(account)
		if kept.Generation != 2 || !e.srv.Alive(string(kept.RefreshToken.Reveal())) {
			t.Error("the rotation was not kept")
		}
		e.wantPosts(t, 1)
	})
}

// Force does not join a grant that only learns that the next attempt is not due, and it waits for the end.
func TestForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.srv.SetFault(refreshtest.Fault{Status: 429, RetryAfter: "600", Times: 1})
		_, err := e.r.Renew(t.Context(), account, 1)
		var ge *refresh.GrantError
		if !errors.As(err, &ge) || ge.Class != refresh.ClassThrottled {
			t.Fatalf("got %v, want throttled", err)
		}
		_, err = e.r.Renew(t.Context(), account, 1)
		wantErr(t, err, refresh.ErrNotYet)
		e.wantPosts(t, 1)
		e.srv.SetFault(refreshtest.Fault{Delay: 5 * time.Second})
		if c, err := e.r.Force(t.Context(), account); err != nil || c.Generation != 2 {
			t.Errorf("forced: %v", err)
		}
		e.wantPosts(t, 2)
		if h := e.r.Health(account); !h.RetryAt.IsZero() || h.Err != nil {
			t.Errorf("health after success: got %v", h)
		}
	})
}
