//go:build e2e

// Package e2e runs the product with real parts: the built binary, a real FUSE mount, a private dockerd, the real Claude
// Code client, a real authorization server. Nothing here skips: a missing part is a failure.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/claudefs/claudefs/test/internal/claudeclient"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// The parts that all tests share.
var (
	docker   *dockertest.Daemon
	claudefs string            // the built binary
	servers  map[string]string // the real authorization servers'
	claude   string            // the real client's
)

const image = "claudefs-e2e:1"

func TestMain(m *testing.M) {
	code, err := runAll(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func runAll(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if os.Geteuid() != 0 {
		return 1, fmt.Errorf("needs root: it mounts and runs a private dockerd")
	}
	dir, err := os.MkdirTemp("", "claudefs-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	claudefs = filepath.Join(dir, "claudefs")
	if err := build(ctx, "../..", claudefs, "./cmd/claudefs"); err != nil {
		return 1, err
	}
	if err := buildLoad(ctx, dir); err != nil {
		return 1, err
	}
	servers = map[string]string{"fosite": filepath.Join(dir, "authserver"), "zitadel": filepath.Join(dir, "zitadelserver")}
	for _, bin := range servers {
		if err := build(ctx, filepath.Join("..", filepath.Base(bin)), bin, "."); err != nil {
			return 1, err
		}
	}
	cache, err := claudeclient.CacheDir()
	if err != nil {
		return 1, err
	}
	if claude, err = claudeclient.Install(ctx, cache); err != nil {
		return 1, err
	}
	if docker, err = dockertest.Start(ctx, dockertest.Config{Args: []string{"--live-restore"}}); err != nil {
		return 1, err
	}
	defer func() {
		if serr := docker.Stop(); serr != nil && err == nil {
			code, err = 1, serr
		}
	}()
	if err := docker.BuildImage(ctx, dockertest.Image{Name: image, Binaries: []string{claude}}); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, scanAfterAll(docker.Root())
}

func build(ctx context.Context, dir, out, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, b)
	}
	return nil
}
