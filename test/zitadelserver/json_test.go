package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

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
