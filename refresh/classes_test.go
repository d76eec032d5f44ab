package refresh_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

const jsonType = "application/json"

// failures are the ways in which a grant fails. Bodies echo RT and AT, the tokens of the login, as servers do.
var failures = []struct {
	name       string
	fault      refreshtest.Fault
	class      refresh.Class
	code, uri  string
	retryAfter time.Duration
	posts      int
	state      vault.State
	inDoubt    bool // the intent stays
}{
	{
		name: "429 with Retry-After", fault: refreshtest.Fault{Status: 429, RetryAfter: "30", Body: "ECHO RT"},
		class: refresh.ClassThrottled, retryAfter: 30 * time.Second, posts: 1, state: vault.StateValid,
	},
	{
		name: "429 with code", fault: refreshtest.Fault{Status: 429, Body: `{"error":{"type":"rate_limit_error","message":"ECHO RT"}}`},
		class: refresh.ClassThrottled, code: "rate_limit_error", posts: 1, state: vault.StateValid,
	},
	{
		name: "500", fault: refreshtest.Fault{Status: 500, Body: "ECHO RT AT"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "503 with HTML", fault: refreshtest.Fault{Status: 503, ContentType: "text/html", Body: "<html>ECHO RT"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "500 with a code", fault: refreshtest.Fault{Status: 500, ContentType: jsonType, Body: `{"error":"server_error"}`},
		class: refresh.ClassInDoubt, code: "server_error", posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "500 with invalid_grant", fault: refreshtest.Fault{Status: 500, ContentType: jsonType, Body: `{"error":"invalid_grant"}`},
		class: refresh.ClassInDoubt, code: "invalid_grant", posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "connection reset", fault: refreshtest.Fault{Drop: "before"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "no answer in time", fault: refreshtest.Fault{Delay: time.Minute, Status: 500},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "200 with HTML", fault: refreshtest.Fault{Status: 200, ContentType: "text/html", Body: "<p>ECHO RT AT</p>"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "200 with garbage", fault: refreshtest.Fault{Status: 200, ContentType: jsonType, Body: `{"access_token": RT`},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "200 with text", fault: refreshtest.Fault{Status: 200, ContentType: "text/plain", Body: "ECHO%zzRT"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "200 with a list for a token", fault: refreshtest.Fault{Status: 200, ContentType: jsonType, Body: `{"access_token": ["RT"]}`},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "200 without a token", fault: refreshtest.Fault{Status: 200, ContentType: jsonType, Body: `{"refresh_token": "RT"}`},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "400 with HTML", fault: refreshtest.Fault{Status: 400, ContentType: "text/html", Body: "<p>ECHO RT"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "redirect", fault: refreshtest.Fault{Status: 307, Location: "https://evil.test/ECHO", Body: "ECHO RT"},
		class: refresh.ClassConfig, posts: 1, state: vault.StateValid,
	},
	{
		name: "redirect to a broken place", fault: refreshtest.Fault{Status: 307, Location: "http://[ECHO RT"},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
	{
		name: "404", fault: refreshtest.Fault{Status: 404, Body: "ECHO RT"},
		class: refresh.ClassConfig, posts: 1, state: vault.StateValid,
	},
	{
		name: "invalid_grant", fault: refreshtest.Fault{Status: 400, ContentType: jsonType, Body: `{"error":"invalid_grant","error_description":"ECHO RT"}`},
		class: refresh.ClassDead, code: "invalid_grant", posts: 1, state: vault.StateDead,
	},
	{
		name: "invalid_grant in 401", fault: refreshtest.Fault{Status: 401, ContentType: jsonType, Body: `{"error":"invalid_grant"}`},
		class: refresh.ClassDead, code: "invalid_grant", posts: 1, state: vault.StateDead,
	},
	{
		name: "invalid_grant as an object", fault: refreshtest.Fault{Status: 400, ContentType: jsonType, Body: `{"error":{"type":"invalid_grant","message":"ECHO RT"}}`},
		class: refresh.ClassDead, code: "invalid_grant", posts: 1, state: vault.StateDead,
	},
	{
		name: "hold", fault: refreshtest.Fault{Status: 403, ContentType: jsonType, Body: `{"error":"access_denied","error_description":"ECHO","error_uri":"https://u:RT@help.test/hold?t=RT#AT"}`},
		class: refresh.ClassHold, code: "access_denied", uri: "https://help.test/hold", posts: 1, state: vault.StateHold,
	},
	{
		name: "hold with the token in its path", fault: refreshtest.Fault{Status: 400, ContentType: jsonType, Body: `{"error":"access_denied","error_uri":"https://help.test/RT"}`},
		class: refresh.ClassHold, code: "access_denied", posts: 1, state: vault.StateHold,
	},
	{
		name: "invalid_client", fault: refreshtest.Fault{Status: 401, ContentType: jsonType, Body: `{"error":"invalid_client","error_uri":"javascript:RT"}`},
		class: refresh.ClassConfig, code: "invalid_client", posts: 1, state: vault.StateValid,
	},
	{
		name: "invalid_scope", fault: refreshtest.Fault{Status: 400, ContentType: jsonType, Body: `{"error":"invalid_scope"}`},
		class: refresh.ClassConfig, code: "invalid_scope", posts: 1, state: vault.StateValid,
	},
	{
		name: "a token for a code", fault: refreshtest.Fault{Status: 400, ContentType: jsonType, Body: `{"error":"RT"}`},
		class: refresh.ClassInDoubt, posts: 4, state: vault.StateValid, inDoubt: true,
	},
}

func TestFailures(t *testing.T) {
	for _, tc := range failures {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, refreshtest.Config{}, nil)
				echo := strings.NewReplacer("RT", e.login.RefreshToken, "AT", e.login.AccessToken)
				fault := tc.fault
				fault.Body, fault.Location = echo.Replace(fault.Body), echo.Replace(fault.Location)
				e.srv.SetFault(fault)
				_, err := e.r.Force(t.Context(), account)
				var ge *refresh.GrantError
				if !errors.As(err, &ge) {
					t.Fatalf("got %v, want a GrantError", err)
				}
				if ge.Class != tc.class || ge.Code != tc.code || ge.URI != tc.uri || ge.RetryAfter != tc.retryAfter {
					t.Errorf("got class %q, code %q, URI %q, retry after %v", ge.Class, ge.Code, ge.URI, ge.RetryAfter)
				}
				lost := tc.state != vault.StateValid
				if got := errors.Is(err, refresh.ErrLoginRequired); got != lost {
					t.Errorf("login required: got %t, want %t", got, lost)
				}
				wantSilent(t, err, e.login.AccessToken, e.login.RefreshToken)
				e.wantPosts(t, tc.posts)
				e.wantFailed(t, tc.state, tc.inDoubt)
			})
		})
	}
}

// wantFailed checks what a failed grant leaves: the record but for its state, one event, and the token in hand.
func (e *env) wantFailed(t *testing.T, state vault.State, inDoubt bool) {
	t.Helper()
	c := e.store.record(account)
	if c.State != state || (c.Intent != nil) != inDoubt || c.Generation != 1 {
		t.Errorf("vault: got state %s, intent %v, generation %d", c.State, c.Intent, c.Generation)
	}
	if (c.Why != "") != (state != vault.StateValid) {
		t.Errorf("why: got %q", c.Why)
	}
	wantSilent(t, errors.New(c.Why), e.login.AccessToken, e.login.RefreshToken)
	if string(c.RefreshToken.Reveal()) != e.login.RefreshToken || string(c.AccessToken.Reveal()) != e.login.AccessToken {
		t.Error("a token was lost")
	}
	if evs := e.reported(); len(evs) != 1 || evs[0].Err == nil || evs[0].Generation != 1 {
		t.Errorf("events: got %v, want one failure", evs)
	}
	if got, err := e.r.Token(t.Context(), account); err != nil || string(got.AccessToken.Reveal()) != e.login.AccessToken {
		t.Errorf("the token in hand is not served: %v", err)
	}
	synctest.Wait()
}

// refused is a transport that reaches nobody.
type refused struct{ posts atomic.Int32 }

func (r *refused) RoundTrip(*http.Request) (*http.Response, error) {
	r.posts.Add(1)
	return nil, syscall.ECONNREFUSED
}

func TestUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &refused{}
		e := newEnv(t, refreshtest.Config{}, func(c *refresh.Config) { c.Transport = rt })
		_, err := e.r.Force(t.Context(), account)
		var ge *refresh.GrantError
		if !errors.As(err, &ge) || ge.Class != refresh.ClassUnsent || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want unsent: connection refused", err)
		}
		if strings.Contains(err.Error(), tokenURL) {
			t.Errorf("got %q: it names the URL", err)
		}
		e.wantFailed(t, vault.StateValid, false)
		if got, want := rt.posts.Load(), int32(1); got != want {
			t.Errorf("attempts: got %d, want %d", got, want)
		}
	})
}

// A refresh token that the server refused is never sent again, whoever asks, until there is a new login.
func TestDeadLogin(t *testing.T) {
	for name, body := range map[string]string{
		"dead": `{"error":"invalid_grant"}`, "hold": `{"error":"access_denied","error_uri":"https://help.test/hold"}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, refreshtest.Config{}, nil)
				e.srv.SetFault(refreshtest.Fault{Status: 400, ContentType: jsonType, Body: body})
				_, err := e.r.Force(t.Context(), account)
				wantErr(t, err, refresh.ErrLoginRequired)
				stop := start(t, e.r)
				for range 10 {
					_, err = e.r.Force(t.Context(), account)
					wantErr(t, err, refresh.ErrLoginRequired)
					_, err = e.r.Renew(t.Context(), account, 1)
					wantErr(t, err, refresh.ErrLoginRequired)
					if _, err := e.r.Token(t.Context(), account); err != nil {
						t.Errorf("still valid: %v", err)
					}
					time.Sleep(30 * time.Minute)
				}
				time.Sleep(4 * time.Hour) // past its end
				_, err = e.r.Token(t.Context(), account)
				wantErr(t, err, refresh.ErrLoginRequired)
				wantSilent(t, err, e.login.RefreshToken)
				e.wantPosts(t, 1)
				stop()

				e.srv.SetFault(refreshtest.Fault{})
				next := credential(account, e.srv.NewLogin())
				next.Generation = 2
				e.store.records[account] = *next
				e.r.Retry(account)
				if c, err := e.r.Force(t.Context(), account); err != nil || c.Generation != 3 {
					t.Errorf("after a new login: %v", err)
				}
			})
		})
	}
}

// Between failures there are pauses; what the server asks for is kept, but never until the token in hand has ended.
func TestBackOff(t *testing.T) {
	for _, tc := range []struct {
		name       string
		retryAfter string
		left       time.Duration // of the token in hand
		least      time.Duration
		most       time.Duration
	}{
		{"nothing asked", "", 8 * time.Hour, 500 * time.Millisecond, 1500 * time.Millisecond},
		{"40 s", "40", 8 * time.Hour, 40 * time.Second, 40 * time.Second},
		{"a day", "86400", 8 * time.Hour, 15 * time.Minute, 15 * time.Minute},
		{"more than a clock holds", "999999999999999999", 8 * time.Hour, 15 * time.Minute, 15 * time.Minute},
		{"longer than is left", "600", 8 * time.Minute, 4 * time.Minute, 4 * time.Minute},
		{"the token has ended", "600", -time.Minute, 10 * time.Minute, 10 * time.Minute},
		{"nonsense", "soon", 8 * time.Hour, 500 * time.Millisecond, 1500 * time.Millisecond},
		{"negative", "-5", 8 * time.Hour, 500 * time.Millisecond, 1500 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnv(t, refreshtest.Config{}, nil)
				e.change(func(c *vault.Credential) { c.ExpiresAt = time.Now().Add(tc.left) })
				e.srv.SetFault(refreshtest.Fault{Status: 429, RetryAfter: tc.retryAfter})
				_, _ = e.r.Renew(t.Context(), account, 1)
				pause := time.Until(e.r.Health(account).RetryAt)
				if pause < tc.least || pause > tc.most {
					t.Errorf("pause: got %v, want %v to %v", pause, tc.least, tc.most)
				}
				time.Sleep(pause - time.Millisecond)
				_, err := e.r.Renew(t.Context(), account, 1)
				wantErr(t, err, refresh.ErrNotYet)
				e.wantPosts(t, 1)
				time.Sleep(2 * time.Millisecond)
				_, _ = e.r.Renew(t.Context(), account, 1)
				e.wantPosts(t, 2)
			})
		})
	}
}

// An outage is met with pauses that grow to minutes.
func TestBackOffGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &refused{}
		e := newEnv(t, refreshtest.Config{}, func(c *refresh.Config) { c.Transport = rt })
		e.expire()
		stop := start(t, e.r)
		_, _ = e.r.Token(t.Context(), account)
		time.Sleep(time.Hour)
		if n := rt.posts.Load(); n < 15 || n > 60 {
			t.Errorf("attempts in an hour: got %d, want 15 to 60", n)
		}
		stop()
	})
}
