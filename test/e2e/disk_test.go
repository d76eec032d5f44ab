//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// No token that ever lived is in any file that claudefs or Docker wrote, whatever the container did with its tree.
func TestNoTokenOnDisk(t *testing.T) {
	h := newHost(t, hostOptions{policy: "isolated"})
	a := newAPI(t, claudeapi.Config{Verdict: verdict(h.tokens.Active)})
	h.login("web", true)
	b := a.run(dockertest.RunConfig{Mounts: []string{h.tree("web")}})
	if r := b.prompt("hi"); r.ExitCode != 0 {
		t.Fatalf("prompt: exit %d: %s", r.ExitCode, r.Text)
	}
	for _, script := range []string{
		"cp /claude/.credentials.json /claude/copy",
		"cat /claude/.credentials.json > /claude/projects/copy",
		"sed -i s/max/pro/ /claude/.credentials.json",
		"cp /claude/.credentials.json /claude/.credentials.json.bak",
		"mv /claude/.credentials.json /claude/moved",
		"ln /claude/.credentials.json /claude/linked",
		"dd if=/claude/.credentials.json of=/claude/slow bs=7",
	} {
		out, errText, code := b.Exec(context.Background(), "root", "sh", "-c", script)
		t.Logf("%-60s exit %d %s%s", script, code, out, errText)
	}
	tokens := h.everyToken()
	h.scan(h.dir, tokens)
	for _, args := range [][]string{
		{"export", b.ID},
		{"commit", b.ID, "claudefs-e2e:committed"},
		{"save", "claudefs-e2e:committed"},
		{"diff", b.ID},
		{"logs", b.ID},
		{"inspect", b.ID},
	} {
		checkOutput(t, tokens, args)
	}
	h.scan(docker.Root(), tokens)
	h.stop()
	h.scan(docker.Root(), h.everyToken())
}

func checkOutput(t *testing.T, tokens, args []string) {
	t.Helper()
	out, err := docker.Docker(context.Background(), args...).CombinedOutput()
	if err != nil {
		t.Errorf("docker %v: %v: %.200s", args, err, out)
	}
	if found := findToken(out, tokens); found != "" {
		t.Errorf("docker %s shows a token: %.16s…", args[0], found)
	}
}
