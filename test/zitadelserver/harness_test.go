package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

const formType = "application/x-www-form-urlencoded"

// harness is a server under test and its addresses.
type harness struct {
	endpoints
	srv *server
}

func start(t *testing.T, cfg config) *harness {
	t.Helper()
	if cfg.lifetime == 0 {
		cfg.lifetime = time.Minute
	}
	web := httptest.NewUnstartedServer(nil)
	cfg.baseURL = "http://" + web.Listener.Addr().String()
	srv, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web.Config.Handler = srv.handler()
	web.Start()
	t.Cleanup(web.Close)
	return &harness{endpoints: srv.endpoints(), srv: srv}
}

// reply is the body of a token or error response.
type reply struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

// call sends one request, decodes the answer into out unless that is nil, and
// returns the status. It is safe to use from several goroutines.
func call(t *testing.T, req *http.Request, out any) int {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			t.Errorf("decode %q: %v", body, err)
		}
	}
	return resp.StatusCode
}

func request(t *testing.T, method, target, contentType, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req
}

// login asks /admin/login for a credential.
func (h *harness) login(t *testing.T, query string) credential {
	t.Helper()
	var file credentialFile
	if status := call(t, request(t, "POST", h.AdminURL+"/login"+query, "", ""), &file); status != http.StatusOK {
		t.Fatalf("login: status %d", status)
	}
	return file.OAuth
}

// refresh sends a form-encoded refresh request.
func (h *harness) refresh(t *testing.T, refreshToken string) (int, reply) {
	t.Helper()
	return h.refreshScope(t, refreshToken, "")
}

// refreshScope also names a scope, unless that is empty.
func (h *harness) refreshScope(t *testing.T, refreshToken, scope string) (int, reply) {
	t.Helper()
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}, "client_id": {clientID},
	}
	if scope != "" {
		form.Set("scope", scope)
	}
	var out reply
	status := call(t, request(t, "POST", h.TokenURL, formType, form.Encode()), &out)
	return status, out
}

// active asks whether an access token is live.
func (h *harness) active(t *testing.T, token string) bool {
	t.Helper()
	var out struct{ Active bool }
	call(t, request(t, "GET", h.AdminURL+"/active?token="+url.QueryEscape(token), "", ""), &out)
	return out.Active
}

// introspect asks the RFC 7662 endpoint about an access token.
func (h *harness) introspect(t *testing.T, token string) bool {
	t.Helper()
	var out struct{ Active bool }
	form := url.Values{"token": {token}}
	status := call(t, request(t, "POST", h.IntrospectURL, formType, form.Encode()), &out)
	if status != http.StatusOK {
		t.Errorf("introspect: status %d", status)
	}
	return out.Active
}

func (h *harness) wantCounts(t *testing.T, want counts) {
	t.Helper()
	var got counts
	call(t, request(t, "GET", h.AdminURL+"/counts", "", ""), &got)
	if got != want {
		t.Errorf("counts: got %+v, want %+v", got, want)
	}
}

// userinfo asks the OpenID Connect endpoint who an access token stands for.
func (h *harness) userinfo(t *testing.T, token string) (int, string) {
	t.Helper()
	var out struct {
		Subject string `json:"sub"`
	}
	req := request(t, "GET", h.UserinfoURL, "", "")
	req.Header.Set("Authorization", "Bearer "+token)
	status := call(t, req, &out)
	return status, out.Subject
}

// wantRefused checks that a refresh gets invalid_grant.
func (h *harness) wantRefused(t *testing.T, refreshToken string) {
	t.Helper()
	status, out := h.refresh(t, refreshToken)
	if status != http.StatusBadRequest || out.Error != "invalid_grant" {
		t.Errorf("refresh: status %d, %+v, want invalid_grant", status, out)
	}
}
