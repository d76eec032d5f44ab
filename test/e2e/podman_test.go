//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// Rootful Podman behind its socket decides as Docker does: the same tests, on another engine.
func TestPodman(t *testing.T) {
	engine := dockertest.NewPodman(t, dockertest.Config{})
	if err := engine.BuildImage(context.Background(), dockertest.Image{Name: image}); err != nil {
		t.Fatal(err)
	}
	dockers := docker
	docker = engine
	defer func() { docker = dockers }()
	t.Run("names itself", func(t *testing.T) {
		h := newHost(t, hostOptions{policy: strings.Replace(openPolicy, "match: {container: {}}", "match: {container: {runtime: podman}}", 1)})
		h.login("default", false)
		if _, ok := reads(h.holder("web", dockertest.RunConfig{})); !ok {
			t.Errorf("refused: %s", h.lastEvent(audit.ActionRead, "web").Reason)
		}
	})
	t.Run("levels", TestLevelsKeepApart)
	t.Run("refusals", TestRefusals)
	t.Run("isolated", TestIsolatedRefusals)
	t.Run("project", TestProjectRefusals)
	t.Run("runtime down", TestRuntimeDown)
	t.Run("policy file", TestPolicyFile)
	t.Run("explain", TestPolicyExplain)
	t.Run("rename and restart", TestRenameAndRestart)
	t.Run("instant readers", TestThirtyInstantReaders)
}
