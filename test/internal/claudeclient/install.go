package claudeclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

const (
	// Version is the client's version that Install fetches.
	Version = "2.1.330"
	// packageName is the native build for linux-x64 with glibc.
	packageName = "@anthropic-ai/claude-code-linux-x64"
	// binarySHA256 pins the program itself, whatever registry served it.
	binarySHA256 = "f390eaa0814e6a1bff74cbb47acb74cb9c89d30ced809fe0af5af00c7bfe8ebb"
)

// CacheDir returns the directory that tests share: $CLAUDEFS_TEST_CACHE, or a
// directory of the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv("CLAUDEFS_TEST_CACHE"); dir != "" {
		return dir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	return filepath.Join(base, "claudefs-test"), nil
}

// Install returns the path of the client's binary under dir and fetches it with
// `npm pack` if it is not there (170 MB to load, 380 MB on disk). Calls may run
// at the same time, in one process or in several: a file lock admits one, and
// the binary appears by rename, complete and with the pinned SHA-256.
func Install(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache directory: %w", err)
	}
	path := filepath.Join(dir, "claude-"+Version)
	if installed(path) {
		return path, nil
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if installed(path) { // another caller was first
		return path, nil
	}
	work, err := os.MkdirTemp(dir, "install-")
	if err != nil {
		return "", fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(work)
	binary, err := fetch(ctx, work)
	if err != nil {
		return "", err
	}
	if err := os.Rename(binary, path); err != nil {
		return "", fmt.Errorf("publish client: %w", err)
	}
	return path, nil
}

// installed trusts the name: only a verified binary is ever renamed to it.
func installed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// fetch leaves the verified binary somewhere in work.
func fetch(ctx context.Context, work string) (string, error) {
	archive, err := pack(ctx, work)
	if err != nil {
		return "", err
	}
	if err := run(ctx, work, "tar", "-xzf", archive, "package/claude"); err != nil {
		return "", err
	}
	binary := filepath.Join(work, "package", "claude")
	// Fail closed: tests run this program as root.
	if err := verify(binary); err != nil {
		return "", err
	}
	if err := os.Chmod(binary, 0o755); err != nil {
		return "", fmt.Errorf("make client executable: %w", err)
	}
	return binary, nil
}

func pack(ctx context.Context, work string) (string, error) {
	if err := run(ctx, work, "npm", "pack", "--silent", packageName+"@"+Version); err != nil {
		return "", err
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return "", errors.Join(fmt.Errorf("find package archive: %d found", len(archives)), err)
	}
	return archives[0], nil
}

func verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open client: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read client: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != binarySHA256 {
		return fmt.Errorf("verify client: SHA-256 is %s, want %s", got, binarySHA256)
	}
	return nil
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w: %s", name, err, tail(out))
	}
	return nil
}

// lockFile waits for an exclusive lock, which ends with the process at the
// latest.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
