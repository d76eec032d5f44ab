package vault_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/vault"
)

// Two processes with 25 goroutines each count under compare-and-set, and no count is lost.
func TestIncrementsOfTwoProcesses(t *testing.T) {
	const processes, goroutines, times = 2, 25, 2
	v, dir := create(t)
	c := credential("counter")
	c.Generation = 0
	store(t, v, c, vault.Version{})
	var running []*exec.Cmd
	for range processes {
		cmd := child(t, "child-increment", dir, fmt.Sprint(goroutines), fmt.Sprint(times))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	got, _, err := v.Load("counter")
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(processes * goroutines * times); got.Generation != want {
		t.Errorf("got %d, want %d", got.Generation, want)
	}
}

// A writer killed at any moment leaves a vault that reads, with all that Store had reported, and at most one more.
func TestKilledWriter(t *testing.T) {
	kills := 40
	if testing.Short() {
		kills = 10
	}
	v, dir := create(t)
	store(t, v, credential("written"), vault.Version{})
	for i := range kills {
		reported := killWriter(t, dir, time.Duration(rand.Int64N(int64(20*time.Millisecond))))
		c, _, err := again(t, dir).Load("written")
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		if c.Generation < reported || reported > 0 && c.Generation > reported+1 {
			t.Fatalf("kill %d: got generation %d after %d was reported", i, c.Generation, reported)
		}
		if want := fmt.Sprint("token-", c.Generation); c.Generation > 1 && string(c.AccessToken.Reveal()) != want {
			t.Fatalf("kill %d: got another token, want %s", i, want)
		}
	}
	// The next store sweeps what the killed ones left.
	c, version, err := v.Load("written")
	if err != nil {
		t.Fatal(err)
	}
	store(t, v, c, version)
	entries, err := os.ReadDir(dir + "/accounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

// killWriter lets a writer store once, kills it after d, and returns the last generation that it reported.
func killWriter(t *testing.T, dir string, d time.Duration) uint64 {
	t.Helper()
	cmd := child(t, "child-write", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if _, err := r.Peek(1); err != nil {
		t.Fatalf("writer did not begin: %v", err)
	}
	time.Sleep(d) // the moment of the kill, not a wait for anything
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	reported := lastLine(r)
	_ = cmd.Wait()
	return reported
}
