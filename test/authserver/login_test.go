package main

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

func TestLoginGivesWorkingTokens(t *testing.T) {
	h := start(t, config{lifetime: 30 * time.Second})
	cred := h.login(t, "")
	if !slices.Equal(cred.Scopes, loginScopes) {
		t.Errorf("scopes: got %q, want %q", cred.Scopes, loginScopes)
	}
	if left := time.Until(time.UnixMilli(cred.ExpiresAt)); left < 25*time.Second || left > 31*time.Second {
		t.Errorf("the access token expires in %s, want about 30s", left)
	}
	if !h.active(t, cred.AccessToken) || !h.introspect(t, cred.AccessToken) || !h.introspect(t, cred.RefreshToken) {
		t.Error("a token of a new login is not live")
	}
	if h.active(t, cred.RefreshToken) {
		t.Error("/admin/active takes a refresh token for an access token")
	}
}

func TestLoginExpired(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "?expired=1")
	if !time.UnixMilli(cred.ExpiresAt).Before(time.Now()) {
		t.Error("expiresAt is not in the past")
	}
	if status, out := h.refresh(t, cred.RefreshToken); status != http.StatusOK {
		t.Errorf("refresh: status %d, %+v", status, out)
	}
}

func TestAccessTokenExpires(t *testing.T) {
	t.Parallel()
	h := start(t, config{lifetime: time.Second})
	cred := h.login(t, "")
	for deadline := time.Now().Add(5 * time.Second); h.active(t, cred.AccessToken); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the access token is still live")
		}
	}
	if status, _ := h.refresh(t, cred.RefreshToken); status != http.StatusOK {
		t.Errorf("refresh after expiry: status %d", status)
	}
}

// A login without a PKCE challenge gets no code.
func TestLoginNeedsPKCE(t *testing.T) {
	h := start(t, config{})
	query := url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI},
		"scope": {"user:inference"}, "state": {"0123456789"},
	}
	req := request(t, "GET", h.AuthorizeURL+"?"+query.Encode(), "", "")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	location, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	if got := location.Query().Get("error"); got != "invalid_request" {
		t.Errorf("authorize without a challenge: got error %q in %s", got, location)
	}
}

func TestAdminRevokeLeavesRefreshToken(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	target := h.AdminURL + "/revoke?token=" + url.QueryEscape(cred.AccessToken)
	if status := call(t, request(t, "POST", target, "", ""), nil); status != http.StatusNoContent {
		t.Fatalf("revoke: status %d", status)
	}
	if h.active(t, cred.AccessToken) {
		t.Error("the access token is still live")
	}
	if status := call(t, request(t, "POST", target, "", ""), nil); status != http.StatusNotFound {
		t.Errorf("revoke again: status %d, want 404", status)
	}
	if status, _ := h.refresh(t, cred.RefreshToken); status != http.StatusOK {
		t.Errorf("refresh: status %d", status)
	}
}

func TestRevocationEndsFamily(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	form := url.Values{"token": {cred.RefreshToken}, "client_id": {clientID}}
	if status := call(t, request(t, "POST", h.RevokeURL, formType, form.Encode()), nil); status != http.StatusOK {
		t.Fatalf("revoke: status %d", status)
	}
	h.wantDead(t, cred.AccessToken, cred.RefreshToken)
}
