package main

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

func TestRefreshRotates(t *testing.T) {
	h := start(t, config{lifetime: 30 * time.Second})
	cred := h.login(t, "")
	status, next := h.refresh(t, cred.RefreshToken)
	if status != http.StatusOK {
		t.Fatalf("refresh: status %d, %+v", status, next)
	}
	if next.RefreshToken == "" || next.RefreshToken == cred.RefreshToken || next.AccessToken == cred.AccessToken {
		t.Error("a token did not change")
	}
	if got, want := next.Scope, strings.Join(loginScopes, " "); got != want {
		t.Errorf("scope: got %q, want %q", got, want)
	}
	if next.ExpiresIn != 30 {
		t.Errorf("expires_in: got %d, want 30", next.ExpiresIn)
	}
	if h.active(t, cred.AccessToken) {
		t.Error("the old access token is still live")
	}
	if !h.active(t, next.AccessToken) {
		t.Error("the new access token is not live")
	}
	h.wantCounts(t, counts{OK: 1})
}

// A spent refresh token is refused, and that is all: no family ends.
func TestReuseLeavesLogin(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	_, next := h.refresh(t, cred.RefreshToken)
	h.wantRefused(t, cred.RefreshToken)
	if !h.active(t, next.AccessToken) {
		t.Error("the new access token is not live")
	}
	if status, out := h.refresh(t, next.RefreshToken); status != http.StatusOK {
		t.Errorf("refresh after reuse: status %d, %+v", status, out)
	}
	h.wantCounts(t, counts{OK: 2, Failed: 1, Reused: 1})
}

func TestUnknownRefreshToken(t *testing.T) {
	h := start(t, config{})
	h.wantRefused(t, "unknown")
	h.wantCounts(t, counts{Failed: 1})
}

// A narrower scope is for the whole rest of the login; a wider one is refused
// and spends nothing.
func TestRefreshScope(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	status, out := h.refreshScope(t, cred.RefreshToken, "user:inference org:admin")
	if status != http.StatusBadRequest || out.Error != "invalid_scope" {
		t.Errorf("wider scope: status %d, %+v", status, out)
	}
	_, narrow := h.refreshScope(t, cred.RefreshToken, "user:inference")
	_, next := h.refresh(t, narrow.RefreshToken)
	if narrow.Scope != "user:inference" || next.Scope != "user:inference" {
		t.Errorf("scopes: got %q, then %q, want user:inference twice", narrow.Scope, next.Scope)
	}
	h.wantCounts(t, counts{OK: 2, Failed: 1})
}

// Two requests that both looked before either spent: the race that the next
// test meets only sometimes.
func TestStoreSpendsOnce(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	var requests [2]op.RefreshTokenRequest
	for i := range requests {
		req, err := h.srv.store.TokenRequestByRefreshToken(t.Context(), cred.RefreshToken)
		if err != nil {
			t.Fatal(err)
		}
		requests[i] = req
	}
	if _, _, _, err := h.srv.store.CreateAccessAndRefreshTokens(t.Context(), requests[0], cred.RefreshToken); err != nil {
		t.Errorf("first: %v", err)
	}
	_, _, _, err := h.srv.store.CreateAccessAndRefreshTokens(t.Context(), requests[1], cred.RefreshToken)
	if !errors.Is(err, oidc.ErrInvalidGrant()) {
		t.Errorf("second: got %v, want invalid_grant", err)
	}
	h.wantCounts(t, counts{Reused: 1})
}

// One request wins, the others are reuse, and the winner's tokens live on.
func TestConcurrentRefreshes(t *testing.T) {
	h := start(t, config{})
	const rounds, callers = 40, 20
	for range rounds {
		refreshTogether(t, h, callers)
	}
	lost := rounds * (callers - 1)
	h.wantCounts(t, counts{OK: rounds, Failed: lost, Reused: lost})
}

// refreshTogether sends one refresh token of a new login several times at once.
func refreshTogether(t *testing.T, h *harness, callers int) {
	t.Helper()
	cred := h.login(t, "")
	var wg sync.WaitGroup
	begin := make(chan struct{})
	statuses, replies := make([]int, callers), make([]reply, callers)
	for i := range callers {
		wg.Go(func() {
			<-begin
			statuses[i], replies[i] = h.refresh(t, cred.RefreshToken)
		})
	}
	close(begin)
	wg.Wait()
	won := 0
	for i, out := range replies {
		if statuses[i] == http.StatusOK {
			won++
			if !h.active(t, out.AccessToken) {
				t.Errorf("caller %d: the new access token is not live", i)
			}
		} else if statuses[i] != http.StatusBadRequest || out.Error != "invalid_grant" {
			t.Errorf("caller %d: status %d, %+v", i, statuses[i], out)
		}
	}
	if won != 1 {
		t.Errorf("%d refreshes with one token succeeded, want 1", won)
	}
	if h.active(t, cred.AccessToken) {
		t.Error("the old access token is still live")
	}
}
