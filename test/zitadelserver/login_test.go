package main

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

func TestLoginGivesWorkingTokens(t *testing.T) {
	h := start(t, config{lifetime: 30 * time.Second})
	cred := h.login(t, "")
	for _, scope := range claudeScopes {
		if !slices.Contains(cred.Scopes, scope) {
			t.Errorf("scopes: got %q, want %q among them", cred.Scopes, scope)
		}
	}
	if left := time.Until(time.UnixMilli(cred.ExpiresAt)); left < 25*time.Second || left > 31*time.Second {
		t.Errorf("the access token expires in %s, want about 30s", left)
	}
	if status, subject := h.userinfo(t, cred.AccessToken); status != http.StatusOK || subject != h.srv.user.ID {
		t.Errorf("userinfo: status %d, subject %q", status, subject)
	}
	if !h.active(t, cred.AccessToken) || !h.introspect(t, cred.AccessToken) {
		t.Error("the access token of a new login is not live")
	}
	if h.active(t, cred.RefreshToken) || h.active(t, "") || h.active(t, "unknown") {
		t.Error("/admin/active takes something else for an access token")
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
	if h.introspect(t, cred.AccessToken) {
		t.Error("introspection takes an expired token for a live one")
	}
	if status, _ := h.refresh(t, cred.RefreshToken); status != http.StatusOK {
		t.Errorf("refresh after expiry: status %d", status)
	}
}

// A login without a PKCE challenge gets a code, which buys nothing.
func TestLoginNeedsPKCE(t *testing.T) {
	h := start(t, config{})
	client := oauth2.Config{
		ClientID: clientID, RedirectURL: redirectURI, Scopes: loginScopes,
		Endpoint: oauth2.Endpoint{AuthURL: h.AuthorizeURL},
	}
	req := request(t, "GET", client.AuthCodeURL("0123456789"), "", "")
	browser := &http.Client{CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.URL.Host == req.URL.Host {
			return nil
		}
		return http.ErrUseLastResponse
	}}
	resp, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	location, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")},
		"redirect_uri": {redirectURI}, "client_id": {clientID},
	}
	var out reply
	status := call(t, request(t, "POST", h.TokenURL, formType, form.Encode()), &out)
	if status != http.StatusBadRequest || out.Description != "PKCE required" {
		t.Errorf("exchange without a challenge: status %d, %+v", status, out)
	}
}

func TestRevocationEndsLogin(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	form := url.Values{"token": {cred.RefreshToken}, "client_id": {clientID}}
	if status := call(t, request(t, "POST", h.RevokeURL, formType, form.Encode()), nil); status != http.StatusOK {
		t.Fatalf("revoke: status %d", status)
	}
	if h.active(t, cred.AccessToken) {
		t.Error("the access token is still live")
	}
	h.wantRefused(t, cred.RefreshToken)
	h.wantCounts(t, counts{Failed: 1, Reused: 1})
}

func TestRevocationOfAccessTokenLeavesRefreshToken(t *testing.T) {
	h := start(t, config{})
	cred := h.login(t, "")
	form := url.Values{"token": {cred.AccessToken}, "client_id": {clientID}}
	if status := call(t, request(t, "POST", h.RevokeURL, formType, form.Encode()), nil); status != http.StatusOK {
		t.Fatalf("revoke: status %d", status)
	}
	if h.active(t, cred.AccessToken) {
		t.Error("the access token is still live")
	}
	if status, _ := h.refresh(t, cred.RefreshToken); status != http.StatusOK {
		t.Errorf("refresh: status %d", status)
	}
}
