//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

const (
	elsewhere     = "https://api.anthropic.com/elsewhere"
	divertingFile = `{"env":{"ANTHROPIC_BASE_URL":"` + elsewhere + `"}}`
)

// settingsPolicy allows one tree the other URL.
const settingsPolicy = `version: 1
rules:
  - name: gateway
    match: {tree: allowed}
    allow: {level: shared, account: default, endpoints: ["` + elsewhere + `"]}
  - name: rest
    allow: {level: shared, account: default}
`

// diverted are the requests that reached the other URL.
func (a *api) diverted() (out []string) {
	for _, r := range a.Requests() {
		if strings.HasPrefix(r.Path, "/elsewhere") {
			out = append(out, r.Path)
		}
	}
	return out
}

// A URL that a container writes into a file of the tree does not take the token there, whichever file it is; one that the
// rule allows does, which shows that the file is one that the client looks at.
func TestSettingsDoNotDivert(t *testing.T) {
	for _, name := range []string{"settings.json", ".claude.json", ".config.json"} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, hostOptions{policy: settingsPolicy})
			h.login("default", false)
			for _, tree := range []string{"web", "allowed"} {
				a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
				b := a.run(dockertest.RunConfig{Mounts: []string{h.tree(tree)}})
				b.sh(t, fmt.Sprintf("printf '%%s' '%s' >/claude/x && mv /claude/x /claude/%s", divertingFile, name))
				r := b.prompt("hi")
				got := a.diverted()
				if want := tree == "allowed"; (len(got) > 0) != want || (r.ExitCode == 0) == want {
					t.Errorf("tree %s: exit %d %s, requests elsewhere: %v", tree, r.ExitCode, r.Text, got)
				}
			}
		})
	}
}

// An account that is an API key: the client reads it by the helper that its settings name. The key is in no file of the
// tree, and there is no credential file.
func TestAPIKeyAccount(t *testing.T) {
	const key = "sk-ant-api03-e2e-0123456789-0123456789-0123456789"
	h := newHost(t, hostOptions{policy: "version: 1\nrules:\n  - name: key\n    allow: {level: shared, account: work, credential: api-key}\n"})
	if out, code := h.runIn(key+"\n", "account", "set-key", "work"); code != 0 {
		t.Fatalf("set-key: exit %d %s", code, out)
	}
	a := newAPI(t, claudeapi.Config{Verdict: verdict(func(token string) bool { return token == key })})
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	if r := b.prompt("hi"); r.ExitCode != 0 {
		t.Errorf("exit %d %s", r.ExitCode, r.Text)
	}
	if out := b.sh(t, "ls -A /claude; grep -rl "+key+" /claude --exclude=.api-key || true"); strings.Contains(out, ".credentials.json") || strings.Contains(out, "/claude/") {
		t.Errorf("in the tree: %s", out)
	}
	if b, err := exec.Command("grep", "-rl", key, filepath.Join(h.dir, "state")).Output(); err == nil {
		t.Errorf("the key is on disk: %s", b)
	}
}

// A settings file that is open when the server dies goes on as what was shown, whatever has its name by then; and the next
// server filters as the last one did.
func TestSettingsOutliveTheServer(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared"})
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(h.path("web", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const shown = "{\n  \"env\": {}\n}\n"
	for _, replaced := range []bool{false, true} {
		write("settings.json", divertingFile)
		f, err := os.Open(h.path("web", "settings.json"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		h.crash()
		if replaced {
			write("x", divertingFile+strings.Repeat(" ", 100))
			if err := os.Rename(h.path("web", "x"), h.path("web", "settings.json")); err != nil {
				t.Fatal(err)
			}
			h.crash()
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != shown {
			t.Errorf("replaced %v: read %q %v", replaced, got, err)
		}
		if got, err := os.ReadFile(h.path("web", "settings.json")); err != nil || string(got) != shown {
			t.Errorf("replaced %v: opened anew %q %v", replaced, got, err)
		}
	}
}

// sh runs a script in the container.
func (b *box) sh(t *testing.T, script string) string {
	t.Helper()
	out, stderr, code := b.Exec(context.Background(), b.user, "sh", "-c", script)
	if code != 0 {
		t.Fatalf("%s: exit %d %s", script, code, stderr)
	}
	return out
}

// The client writes the whole file back when it changes a setting; on disk is the tree's part of it.
func TestSettingsOverHostBase(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", prepare: func(h *host) {
		h.write("settings.json", `{"permissions":{"deny":["Read(/secret)"]}}`)
		cfg, err := os.ReadFile(h.config)
		if err != nil {
			t.Fatal(err)
		}
		h.write("config.yaml", string(cfg)+"settings: {base: "+filepath.Join(h.dir, "settings.json")+"}\n")
	}})
	h.login("default", false)
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	b.sh(t, `mkdir -p /tmp/market/.claude-plugin && printf '%s' '{"name":"m","owner":{"name":"o"},"plugins":[]}' >/tmp/market/.claude-plugin/marketplace.json`)
	out, err := b.claude(context.Background(), "plugin", "marketplace", "add", "/tmp/market").CombinedOutput()
	if err != nil {
		t.Fatalf("plugin marketplace add: %v %s", err, out)
	}
	if shown := b.sh(t, "cat /claude/settings.json"); !strings.Contains(shown, "Read(/secret)") || !strings.Contains(shown, "extraKnownMarketplaces") {
		t.Errorf("shown %s", shown)
	}
	own, err := os.ReadFile(filepath.Join(h.dir, "state", "trees", "web", "settings.json"))
	if err != nil || strings.Contains(string(own), "secret") || !strings.Contains(string(own), "extraKnownMarketplaces") {
		t.Errorf("on disk %s %v", own, err)
	}
	if r := b.prompt("hi"); r.ExitCode != 0 {
		t.Errorf("exit %d %s", r.ExitCode, r.Text)
	}
}
