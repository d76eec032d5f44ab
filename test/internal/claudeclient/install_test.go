package claudeclient_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/claudefs/claudefs/test/internal/claudebox"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
)

// rotateSilently replaces the token and keeps the file's mtime.
func rotateSilently(t *testing.T, box *claudebox.Box, token string) {
	t.Helper()
	path := filepath.Join(box.ConfigDir, ".credentials.json")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	box.Rotate(token)
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// Calls at the same time agree on one file, and leave nothing else behind.
func TestInstallConcurrently(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			path, err := claudeclient.Install(t.Context(), dir)
			if err != nil {
				t.Error(err)
				return
			}
			if info, err := os.Stat(path); err != nil || info.Size() < 100<<20 {
				t.Errorf("client is not whole: %v", err)
			}
		})
	}
	wg.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 { // the binary and its lock
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
