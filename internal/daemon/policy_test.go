package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/policy"
)

const (
	oneRule  = "version: 1\nrules:\n  - {name: a, match: {container: {}}, allow: {level: shared}}\n"
	twoRules = oneRule + "  - {name: b, deny: no}\n"
)

// A policy is read again on command and when its file changes, whole or not at all.
func TestReloadPolicy(t *testing.T) {
	needFUSE(t)
	o := options(t, t.TempDir())
	seal(t, o)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil { // whatever the umask is by now
		t.Fatal(err)
	}
	o.PolicyName = filepath.Join(dir, "policy.yaml")
	replace(t, o.PolicyName, oneRule)
	var err error
	if o.Policy, err = policy.Load(o.PolicyName); err != nil {
		t.Fatal(err)
	}
	r := start(t, o)
	inForce := func(rules int, problem string) {
		t.Helper()
		var s control.PolicyStatus
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			all, err := r.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s = all.InForce; s.Rules == rules && strings.Contains(s.Error, problem) && (problem != "" || s.Error == "") {
				return
			}
		}
		t.Fatalf("in force: %+v, want %d rules, error %q", s, rules, problem)
	}
	inForce(1, "")
	replace(t, o.PolicyName, twoRules) // in one step, as editors do
	inForce(2, "")
	if err := os.WriteFile(o.PolicyName, []byte(twoRules+"nonsense: 1\n"), 0o600); err != nil { // in place
		t.Fatal(err)
	}
	inForce(2, `unknown field "nonsense"`)
	if _, err := r.ReloadPolicy(t.Context()); err == nil || !strings.Contains(err.Error(), o.PolicyName+":5:1:") {
		t.Errorf("reload of a bad file: %v", err)
	}
	inForce(2, "nonsense")
	if err := os.Remove(o.PolicyName); err != nil { // between two names
		t.Fatal(err)
	}
	replace(t, o.PolicyName, oneRule)
	inForce(1, "")
	if s, err := r.ReloadPolicy(t.Context()); err != nil || s.Rules != 1 {
		t.Errorf("reload: %+v, %v", s, err)
	}
	if err := os.Chmod(o.PolicyName, 0o666); err != nil { // and then anybody could write it
		t.Fatal(err)
	}
	if _, err := r.ReloadPolicy(t.Context()); err == nil || !strings.Contains(err.Error(), "others may change it") {
		t.Errorf("reload of a file that others may change: %v", err)
	}
	inForce(1, "others may change it")
	wantErr(t, r.Stop(t.Context()), nil)
	wantErr(t, r.wait(t), nil)
	wantLog(t, o, audit.ActionStart, audit.ActionPolicy, audit.ActionPolicy, audit.ActionPolicy, audit.ActionStop)
}

func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
