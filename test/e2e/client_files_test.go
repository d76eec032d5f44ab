//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// What the real client keeps beside its credential ends up whole in the tree's state: .claude.json and its backups,
// the transcript, no lock left behind.
func TestRealClientFiles(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("web", false)
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}, User: "node"})
	s := b.session()
	for _, text := range []string{"one", "two", "three"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if r, err := s.Prompt(ctx, text); err != nil || r.IsError {
			t.Fatalf("prompt %s: %v %+v", text, err, r)
		}
		cancel()
	}
	if err := s.Close(); err != nil {
		t.Errorf("the client ended with %v", err)
	}
	state := filepath.Join(h.dir, "state", "trees", "web")
	var config map[string]any
	text, err := os.ReadFile(filepath.Join(state, ".claude.json"))
	if err != nil || json.Unmarshal(text, &config) != nil {
		t.Errorf(".claude.json: %v %.100s", err, text)
	}
	transcripts, _ := filepath.Glob(filepath.Join(state, "projects", "*", "*.jsonl"))
	if len(transcripts) == 0 {
		t.Fatal("no transcript was kept")
	}
	found := checkLines(t, transcripts[0])
	for _, want := range []string{"one", "two", "three"} {
		if !strings.Contains(found, claudeapi.Echo(want, a.Requests()[len(a.Requests())-1].Bearer.Reveal())) {
			t.Errorf("the answer to %q is not in the transcript", want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(state, "*.lock")); len(left) > 0 {
		t.Errorf("locks left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(state, ".credentials*")); len(left) > 0 {
		t.Errorf("credential files on disk: %v", left)
	}
}

// checkLines fails for a line of a transcript that is not JSON, and returns the whole text.
func checkLines(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all strings.Builder
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 10<<20)
	for n := 1; sc.Scan(); n++ {
		if !json.Valid(sc.Bytes()) {
			t.Errorf("%s:%d is not JSON", file, n)
		}
		all.Write(sc.Bytes())
	}
	return all.String()
}
