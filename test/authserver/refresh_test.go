package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRefreshRotates(t *testing.T) {
	h := start(t, config{lifetime: 30 * time.Second})
	cred := h.login(t, "")
	status, next := h.refresh(t, cred.RefreshToken)
	if status != http.StatusOK {
		t.Fatalf("refresh: status %d, %+v", status, next)
	}
	if next.RefreshToken == cred.RefreshToken || next.AccessToken == cred.AccessToken {
		t.Error("a token did not change")
	}
	if got, want := next.Scope, strings.Join(loginScopes, " "); got != want {
		t.Errorf("scope: got %q, want %q", got, want)
	}
	if next.ExpiresIn < 29 || next.ExpiresIn > 30 {
		t.Errorf("expires_in: got %d, want 30", next.ExpiresIn)
	}
	h.wantDead(t, cred.AccessToken, cred.RefreshToken)
	if !h.active(t, next.AccessToken) {
		t.Error("the new access token is not live")
	}
	h.wantCounts(t, counts{OK: 1})
}

func TestReuseRevokesFamily(t *testing.T) {
	h := start(t, config{})
	other := h.login(t, "")
	cred := h.login(t, "")
	_, next := h.refresh(t, cred.RefreshToken)
	status, out := h.refresh(t, cred.RefreshToken)
	if status != http.StatusBadRequest || out.Error != "invalid_grant" {
		t.Errorf("reuse: status %d, %+v", status, out)
	}
	h.wantDead(t, next.AccessToken, next.RefreshToken)
	if status, out := h.refresh(t, next.RefreshToken); status != http.StatusBadRequest || out.Error != "invalid_grant" {
		t.Errorf("refresh after reuse: status %d, %+v", status, out)
	}
	if !h.active(t, other.AccessToken) {
		t.Error("reuse ended another login")
	}
	h.wantCounts(t, counts{OK: 1, Failed: 2, Reused: 2})
}

func TestUnknownRefreshToken(t *testing.T) {
	h := start(t, config{})
	if status, out := h.refresh(t, "unknown"); status != http.StatusBadRequest || out.Error != "invalid_grant" {
		t.Errorf("got status %d, %+v", status, out)
	}
	h.wantCounts(t, counts{Failed: 1})
}

// One request wins, the others are reuse: no two families, in fact none. The
// rounds are there because without server.mu only some would go wrong.
func TestConcurrentRefreshes(t *testing.T) {
	h := start(t, config{})
	const rounds, callers = 40, 20
	for range rounds {
		refreshTogether(t, h, callers)
	}
	// fosite forgets a reused token, so later callers find it unknown.
	h.wantCounts(t, counts{OK: rounds, Failed: rounds * (callers - 1), Reused: rounds})
}

// refreshTogether sends one refresh token of a new login several times at once,
// and checks that nothing of the login lives on.
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
	for i, out := range replies {
		if statuses[i] == http.StatusOK {
			h.wantDead(t, out.AccessToken, out.RefreshToken)
		} else if statuses[i] != http.StatusBadRequest || out.Error != "invalid_grant" {
			t.Errorf("caller %d: status %d, %+v", i, statuses[i], out)
		}
	}
	h.wantDead(t, cred.AccessToken, cred.RefreshToken)
}

func TestRefreshJSON(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	body, err := json.Marshal(map[string]any{
		"grant_type": "refresh_token", "refresh_token": cred.RefreshToken, "client_id": clientID,
		"scope": strings.Join(loginScopes, " "), "expires_in": 3600, "state": nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	var out reply
	req := request(t, "POST", h.TokenURL, "application/json; charset=utf-8", string(body))
	if status := call(t, req, &out); status != http.StatusOK || !h.active(t, out.AccessToken) {
		t.Errorf("status %d, %+v", status, out)
	}
	h.wantCounts(t, counts{OK: 1})
}

func TestRefreshJSONRefused(t *testing.T) {
	h := start(t, config{})
	for name, body := range map[string]string{
		"empty":    ``,
		"null":     `null`,
		"array":    `["refresh_token"]`,
		"nested":   `{"grant_type": {"a": "b"}}`,
		"trailing": `{"grant_type": "refresh_token"} {}`,
		"form":     `grant_type=refresh_token`,
		"too long": `{"grant_type": "` + strings.Repeat("a", maxBody) + `"}`,
	} {
		var out reply
		status := call(t, request(t, "POST", h.TokenURL, "application/json", body), &out)
		if status != http.StatusBadRequest || out.Error != "invalid_request" {
			t.Errorf("%s: status %d, %+v", name, status, out)
		}
	}
}

func TestGrace(t *testing.T) {
	h := start(t, config{grace: time.Hour})
	cred := h.login(t, "")
	_, first := h.refresh(t, cred.RefreshToken)
	status, second := h.refresh(t, cred.RefreshToken)
	if status != http.StatusOK {
		t.Fatalf("within the grace period: status %d, %+v", status, second)
	}
	if h.active(t, cred.AccessToken) {
		t.Error("the first access token is still live")
	}
	if !h.active(t, first.AccessToken) || !h.active(t, second.AccessToken) {
		t.Error("a new access token is not live")
	}
	store := h.srv.store.(*graceStore)
	for signature := range store.usedAt { // no request is in flight
		store.usedAt[signature] = time.Now().Add(-2 * time.Hour)
	}
	if status, out := h.refresh(t, cred.RefreshToken); status != http.StatusBadRequest || out.Error != "invalid_grant" {
		t.Errorf("after the grace period: status %d, %+v", status, out)
	}
	h.wantDead(t, first.AccessToken, first.RefreshToken)
	h.wantDead(t, second.AccessToken, second.RefreshToken)
	h.wantCounts(t, counts{OK: 2, Failed: 1, Reused: 1})
}
