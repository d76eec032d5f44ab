//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// rounds of two clients that start together with an expired token.
const rounds = 20

// strict is a server that kills a whole login when a used refresh token comes again.
var strict = refreshtest.Config{RevokeFamily: true}

// twoClients prompts in two containers at once and returns how many were answered.
func twoClients(boxes []*box, text string) int {
	var wg sync.WaitGroup
	answered := make([]bool, len(boxes))
	for i, b := range boxes {
		wg.Go(func() { answered[i] = b.prompt(text).ExitCode == 0 })
	}
	wg.Wait()
	n := 0
	for _, a := range answered {
		if a {
			n++
		}
	}
	return n
}

// Two real clients in two containers on one account, starting together with an expired token: no login is lost.
func TestNoLoginLost(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", server: strict})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	boxes := []*box{
		a.run(dockertest.RunConfig{Mounts: []string{h.tree("one")}}),
		a.run(dockertest.RunConfig{Mounts: []string{h.tree("two")}}),
	}
	for i := range rounds {
		h.login("default", true)
		if n := twoClients(boxes, fmt.Sprintf("round %d", i)); n != 2 {
			t.Errorf("round %d: %d of 2 clients answered", i, n)
		}
	}
	if lost := h.tokens.Lost(); lost != 0 {
		t.Errorf("%d of %d logins lost", lost, rounds)
	}
	if got := h.tokens.Grants(); got != rounds {
		t.Errorf("%d grants for %d expired logins", got, rounds)
	}
	checkQuiet(t, h, a)
}

// The control: the same two clients sharing the credential file by a bind mount lose most logins.
func TestControlFileBindMountLosesLogins(t *testing.T) {
	s := refreshtest.New(strict)
	a := newAPI(t, claudeapi.Config{Verdict: verdict(s.Active), Token: s})
	file := filepath.Join(t.TempDir(), "credentials.json")
	write := func() {
		l := s.NewLogin()
		l.ExpiresAt = time.Now().Add(-time.Minute)
		b, err := json.Marshal(l.File())
		if err == nil {
			err = os.WriteFile(file, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write()
	var boxes []*box
	for range 2 {
		boxes = append(boxes, a.run(dockertest.RunConfig{Volumes: []string{file + ":/claude/.credentials.json"}}))
	}
	lost := 0
	for i := range rounds {
		write()
		twoClients(boxes, fmt.Sprintf("round %d", i))
		if !fileAlive(t, s, file) {
			lost++
		}
	}
	t.Logf("control: %d of %d logins lost with a single-file bind mount", lost, rounds)
	if lost < rounds/2 {
		t.Errorf("only %d of %d logins lost: the test does not provoke what claudefs is for", lost, rounds)
	}
}

// fileAlive reports whether the file's refresh token can still be used.
func fileAlive(t *testing.T, s *refreshtest.Server, file string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Login struct {
			RefreshToken string `json:"refreshToken"`
		} `json:"claudeAiOauth"`
	}
	return json.Unmarshal(b, &f) == nil && s.Alive(f.Login.RefreshToken)
}
