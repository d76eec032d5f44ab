// Package volatile writes files that matter only while the host runs: those of the runtime directory. They are replaced
// whole, so that no reader finds half of one, and the disk is not waited for, which on a busy one can take minutes.
package volatile

import (
	"fmt"
	"os"
)

// WriteFile replaces a file's content. One process writes it at a time.
func WriteFile(path string, content []byte, perm os.FileMode) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, perm); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		_ = os.Remove(next)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
