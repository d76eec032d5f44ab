package refresh_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

// start runs r until stop, which fails the test when Run does not end.
func start(t testing.TB, r *refresh.Refresher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		select {
		case err := <-done:
			wantErr(t, err, nil)
		case <-time.After(5 * time.Minute):
			t.Error("Run does not end")
		}
	}
}

// A token in use is renewed before it ends, again and again, without a reader; one that nobody reads is left alone.
func TestRunRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		e.store.records["unread"] = *credential("unread", e.srv.NewLogin())
		stop := start(t, e.r)
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		time.Sleep(7*time.Hour + 49*time.Minute)
		e.wantPosts(t, 0)
		time.Sleep(time.Minute + time.Second)
		e.wantPosts(t, 1)
		for range 10 { // no reader looks for more than a day: it is left alone then
			time.Sleep(8 * time.Hour)
		}
		if got := e.posts(); got < 3 || got > 4 {
			t.Errorf("requests in a day and more: got %d, want 3 or 4", got)
		}
		if c := e.store.record("unread"); c.Generation != 1 {
			t.Error("an account that nobody reads was renewed")
		}
		stop()
	})
}

// Run ends when its context does, and waits for the grant under way: its token must reach the vault.
func TestRunStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{Lifetime: time.Minute}, nil)
		e.srv.SetFault(refreshtest.Fault{Delay: 5 * time.Second})
		stop := start(t, e.r)
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		begun := time.Now()
		stop()
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if c := e.store.record(account); c.Generation != 2 {
			t.Error("the grant under way was lost")
		}
		e.wantPosts(t, 1)
	})
}

// A doubt that an earlier process left is settled without a reader of a due token.
func TestRunSettlesDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		stop := start(t, e.r)
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		e.store.mu.Lock()
		e.change(func(c *vault.Credential) { c.Intent = &vault.Intent{ID: "1", At: time.Now()} })
		e.store.version++
		e.store.mu.Unlock()
		time.Sleep(31 * time.Second)
		if c := e.store.record(account); c.Intent != nil || c.Generation != 2 {
			t.Error("the doubt stays")
		}
		stop()
	})
}

// A failure that needs no network, such as a vault that was locked, must not make the loop spin.
func TestRunDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, refreshtest.Config{}, nil)
		stop := start(t, e.r)
		if _, err := e.r.Token(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		e.store.setFault(vault.ErrLocked, nil)
		time.Sleep(8 * time.Hour)
		before := e.store.loadCount()
		time.Sleep(time.Minute)
		if got := e.store.loadCount() - before; got > 200 {
			t.Errorf("the vault was asked %d times in a minute", got)
		}
		stop()
	})
}

// stuck never answers a request that holds a certain token.
type stuck struct {
	token string
	next  http.RoundTripper
}

func (s stuck) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	if strings.Contains(string(body), s.token) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return s.next.RoundTrip(r)
}

// One account's slow endpoint does not keep the others from being renewed.
func TestRunAccountsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goroutines := runtime.NumGoroutine()
		e := newEnv(t, refreshtest.Config{Lifetime: 10 * time.Minute}, nil)
		other := e.srv.NewLogin()
		e.r = newRefresher(t, refresh.Config{
			Store: e.store, TokenURL: tokenURL, ClientID: clientID, Timeout: 100 * time.Second,
			Transport: stuck{e.login.RefreshToken, e.srv.Transport()},
		})
		c := credential("other", other)
		c.ExpiresAt = c.ExpiresAt.Add(time.Minute)
		e.store.records["other"] = *c
		e.store.lock = make(chan struct{}, 2) // the accounts' locks are apart
		stop := start(t, e.r)
		for _, a := range []vault.AccountID{account, "other"} {
			if _, err := e.r.Token(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(9*time.Minute + 10*time.Second)
		if c := e.store.record("other"); c.Generation != 2 {
			t.Error("the other account was not renewed")
		}
		// A grant that hangs for minutes is waited for once, not once more each second.
		if got := runtime.NumGoroutine() - goroutines; got > 20 {
			t.Errorf("%d goroutines more than at the start", got)
		}
		stop()
	})
}
