//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// realServer is a running authorization server of somebody else's making: ory/fosite, the engine of Ory Hydra
// (test/authserver), or zitadel/oidc (test/zitadelserver).
type realServer struct {
	t     testing.TB
	Token string `json:"token_url"`
	Admin string `json:"admin_url"`
	mu    sync.Mutex
	ever  []string
}

func startRealServer(t testing.TB, bin string) *realServer {
	t.Helper()
	cmd := exec.Command(bin, "-lifetime", "8h")
	stdin, err := cmd.StdinPipe() // closing it ends the server
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	s := &realServer{t: t}
	if err := json.NewDecoder(stdout).Decode(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *realServer) call(method, path string) string {
	req, err := http.NewRequest(method, s.Admin+path, nil)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// login returns the credential file of a fresh login.
func (s *realServer) login() string {
	file := s.call(http.MethodPost, "/login?expired=1")
	var f struct {
		Login struct{ AccessToken, RefreshToken string } `json:"claudeAiOauth"`
	}
	if err := json.Unmarshal([]byte(file), &f); err != nil || f.Login.RefreshToken == "" {
		s.t.Fatalf("login at the authorization server: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ever = append(s.ever, f.Login.AccessToken, f.Login.RefreshToken)
	return file
}

func (s *realServer) active(token string) bool {
	s.mu.Lock()
	s.ever = append(s.ever, token) // tokens that claudefs obtained are seen here
	s.mu.Unlock()
	return strings.Contains(s.call(http.MethodGet, "/active?token="+url.QueryEscape(token)), "true")
}

func (s *realServer) tokens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.ever...)
}

// The same against real authorization servers with rotation, which kill old access tokens at once. fosite revokes the
// whole login when a refresh token comes twice; zitadel counts it.
func TestNoLoginLostRealServer(t *testing.T) {
	for name, bin := range servers {
		t.Run(name, func(t *testing.T) { noLoginLost(t, startRealServer(t, bin)) })
	}
}

func noLoginLost(t *testing.T, s *realServer) {
	h := newHost(t, hostOptions{policy: "shared", tokenURL: s.Token})
	h.extra = s.tokens
	a := newAPI(t, claudeapi.Config{Verdict: verdict(s.active)})
	boxes := []*box{
		a.run(dockertest.RunConfig{Mounts: []string{h.tree("one")}}),
		a.run(dockertest.RunConfig{Mounts: []string{h.tree("two")}}),
	}
	for i := range rounds {
		h.importFile("default", s.login())
		if n := twoClients(boxes, fmt.Sprintf("round %d", i)); n != 2 {
			t.Errorf("round %d: %d of 2 clients answered", i, n)
		}
	}
	var counts struct {
		OK    int `json:"refresh_ok"`
		Bad   int `json:"refresh_failed"`
		Reuse int `json:"reuse_detected"`
	}
	if err := json.Unmarshal([]byte(s.call(http.MethodGet, "/counts")), &counts); err != nil {
		t.Fatal(err)
	}
	if counts.OK != rounds || counts.Bad != 0 || counts.Reuse != 0 {
		t.Errorf("server counted %+v, want %d refreshes and nothing else", counts, rounds)
	}
	if v := a.Violations(); len(v) > 0 {
		t.Errorf("clients called the token endpoint %d times", len(v))
	}
}
