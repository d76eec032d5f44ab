//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// await waits until something is true, and fails the test when it is not within 20 seconds.
func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("%s: not within 20 s", what)
}
