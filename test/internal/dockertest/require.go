package dockertest

import (
	"fmt"
	"os"
	"testing"
)

// Unavailable says why no daemon can run here, and returns nil if one can.
func Unavailable() error { return unavailable(docker) }

func unavailable(e *engine) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s needs root", e.program)
	}
	for _, name := range append([]string{e.program}, e.needs...) {
		if _, err := lookPath(name); err != nil {
			return err
		}
	}
	_, err := findClients()
	return err
}

// Require skips the test if no daemon can run here. In CI it fails instead: a
// test that is skipped there is a test nobody runs.
func Require(t testing.TB) {
	t.Helper()
	require(t, Unavailable())
}

func require(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatalf("%v; run test/install-deps.sh", err)
	default:
		t.Skipf("%v; run test/install-deps.sh", err)
	}
}

// New starts a daemon for one test, and stops it when the test ends. The log of
// the daemon is shown if the test failed.
func New(t testing.TB, cfg Config) *Daemon {
	t.Helper()
	Require(t)
	return newDaemon(t, docker, cfg)
}

func newDaemon(t testing.TB, e *engine, cfg Config) *Daemon {
	t.Helper()
	d, err := start(t.Context(), e, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, d) })
	return d
}

func stop(t testing.TB, d *Daemon) {
	t.Helper()
	if t.Failed() && !d.isStopped() {
		t.Logf("daemon's log ends:\n%s", tail(d.Log(), 30))
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
}
