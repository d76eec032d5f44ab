package broker_test

import (
	"errors"
	iofs "io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/vault"
)

// denied wants the open to be refused, with one record that says why.
func (w *world) denied(t *testing.T, c identity.Caller, tree string, want error, reason string) {
	t.Helper()
	if _, err := w.Open(t.Context(), c, tree); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if e := w.log.last(t); e.Outcome != audit.Denied || !strings.Contains(e.Reason, reason) {
		t.Errorf("record %s %q, want %q", e.Outcome, e.Reason, reason)
	}
}

func allow(text string) string {
	return "  - {name: r, match: {container: {}}, allow: {level: shared, account: default, " + text + "}}\n"
}

// A container's time is counted by its runtime's word, else by the kernel's.
func TestTTLOfAContainer(t *testing.T) {
	w := newWorld(t, allow("ttl: 1h"))
	w.login(t, "default")
	c := w.container("web", "web")
	w.facts(c).Started = time.Now().Add(-59 * time.Minute)
	w.read(t, c, "web")
	w.log.last(t)
	w.facts(c).Started = time.Now().Add(-61 * time.Minute)
	w.denied(t, c, "web", iofs.ErrPermission, "container's time is over: it started 1h1m0s ago, the rule gives 1h0m0s")
	// Without a runtime's word it is the first process that counts; here there is none.
	w.facts(c).Started = time.Time{}
	w.att.blind = errors.New("no first process")
	w.denied(t, c, "web", iofs.ErrPermission, "when the container started is not known: no first process")
}

func TestNoCredential(t *testing.T) {
	w := newWorld(t, allow("credential: none"))
	w.login(t, "default")
	c := w.container("web", "web")
	w.denied(t, c, "web", iofs.ErrNotExist, "rule r gives no credential")
	if _, err := w.Write(t.Context(), c, "web"); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("write: %v", err)
	}
	if e := w.log.last(t); e.Action != audit.ActionWrite || e.Outcome != audit.Denied {
		t.Errorf("write: %+v", e)
	}
}

// Fail closed: a rule that gives a key gives no token, of whatever account there is.
func TestKeyIsNoToken(t *testing.T) {
	w := newWorld(t, allow("credential: api-key"))
	w.login(t, "default")
	c := w.container("web", "web")
	w.denied(t, c, "web", iofs.ErrNotExist, "rule r gives an API key, and no credential file")
	if e := w.Explain(t.Context(), c, "web"); e.Allowed || !strings.Contains(e.Reason, "not of the kind") {
		t.Errorf("explained as %+v", e)
	}
}

// The account of a rule with scopes must not be able to do more; one of unknown scopes might.
func TestScopesFailClosed(t *testing.T) {
	w := newWorld(t, allow(`scopes: ["user:inference", "user:profile"]`))
	w.login(t, "default")
	c := w.container("web", "web")
	for _, tt := range []struct {
		scopes []string
		reason string
	}{
		{[]string{"user:inference"}, ""},
		{[]string{"user:profile", "user:inference"}, ""},
		{[]string{"user:inference", "org:create_api_key"}, `account "default" has been granted "org:create_api_key", the rule gives only user:inference user:profile`},
		{nil, `the scopes of account "default" are not known`},
	} {
		w.edit(t, "default", func(c *vault.Credential) { c.Scopes = tt.scopes })
		if tt.reason != "" {
			w.denied(t, c, "web", iofs.ErrPermission, tt.reason)
			continue
		}
		w.read(t, c, "web")
		w.log.last(t)
	}
}

// Reads are counted by container and tree; another container's, or another tree's, are its own.
func TestReadsPerMinute(t *testing.T) {
	w := newWorld(t, allow("reads_per_minute: 3"))
	w.login(t, "default")
	web, api := w.container("web", "web"), w.container("api", "web")
	for range 3 {
		w.read(t, web, "web")
	}
	w.log.since()
	w.denied(t, web, "web", iofs.ErrPermission, "more than 3 reads in a minute")
	w.read(t, api, "web")
}

// Another policy holds from the next open on, for trees that were read before too.
func TestSetPolicy(t *testing.T) {
	w := newWorld(t, allow("login: deny"))
	w.login(t, "default")
	other := w.login(t, "other")
	c := w.container("web", "web")
	w.read(t, c, "web")
	w.log.since()
	w.SetPolicy(parse(t, "  - {name: closed, deny: closed for the day}\n"))
	w.denied(t, c, "web", iofs.ErrPermission, "closed for the day")
	w.SetPolicy(parse(t, strings.Replace(allow("login: deny"), "account: default", "account: other", 1)))
	if got := w.read(t, c, "web"); got.access != other.AccessToken {
		t.Errorf("got %+v, want the other account's token", got)
	}
	if e := w.log.last(t); e.Account != "other" {
		t.Errorf("record: %+v", e)
	}
}

// An explanation says what a read would come to, and changes and records nothing.
func TestExplain(t *testing.T) {
	w := newWorld(t, "  - {name: other, match: {tree: other}, deny: no}\n"+allow(`scopes: ["user:inference", "user:profile", "user:sessions:claude_code"]`))
	l := w.login(t, "default")
	c := w.container("web", "web")
	e := w.Explain(t.Context(), c, "web")
	if !e.Allowed || e.Rule != "r" || e.Account != "default" || !e.ExpiresAt.Equal(l.ExpiresAt.Truncate(time.Millisecond)) || e.Caller.Name != "web" {
		t.Errorf("got %+v", e)
	}
	if len(e.Rules) != 2 || e.Rules[0].Why != `tree: "web" is not other` || !e.Rules[1].Decides {
		t.Errorf("rules: %+v", e.Rules)
	}
	w.edit(t, "default", func(c *vault.Credential) { c.Scopes = []string{"all"} })
	for name, want := range map[string]string{
		"web":   `account "default" has been granted "all"`,
		"other": "does not hold this tree",
	} {
		if e := w.Explain(t.Context(), c, name); e.Allowed || !strings.Contains(e.Reason, want) {
			t.Errorf("%s: %+v, want %q", name, e, want)
		}
		if _, err := w.Open(t.Context(), c, name); err == nil {
			t.Errorf("%s: opened", name)
		}
		if rec := w.log.last(t); !strings.Contains(rec.Reason, want) {
			t.Errorf("%s: a read says %q, want %q", name, rec.Reason, want)
		}
	}
	// Of an isolated tree that nobody has yet: asking does not take it.
	w.SetPolicy(parse(t, "isolated"))
	w.login(t, "web")
	if e := w.Explain(t.Context(), c, "web"); !e.Allowed {
		t.Errorf("isolated: %+v", e)
	}
	second := w.container("second", "web")
	w.read(t, second, "web")
	if e := w.Explain(t.Context(), c, "web"); e.Allowed || !strings.Contains(e.Reason, "belongs to container") {
		t.Errorf("isolated, taken: %+v", e)
	}
}

// A first read waits for an operator; his yes lasts as long as the container runs, in another server too.
func TestApproval(t *testing.T) {
	w := newWorld(t, allow("approval: first-read"), func(c *broker.Config) { c.Memory = memory{} })
	w.login(t, "default")
	web, api := w.container("web", "web"), w.container("api", "web")
	const reason = "its first read needs an approval: claudefs tree approve web"
	for range 2 {
		w.denied(t, web, "web", iofs.ErrPermission, reason)
	}
	w.denied(t, api, "web", iofs.ErrPermission, reason)
	if _, err := w.Write(t.Context(), web, "web"); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("write: %v", err)
	}
	w.log.since()
	if _, err := w.StateDir("web"); err != nil {
		t.Fatal(err)
	}
	if got := w.Status(); len(got) != 1 || len(got[0].Waiting) != 2 || got[0].Hint != "claudefs tree approve web" {
		t.Errorf("status: %+v", got)
	}
	if _, err := w.Approve("web", "other"); err == nil {
		t.Error("somebody who does not wait was approved")
	}
	if _, err := w.Approve("web", "0"); err == nil { // both ids begin so
		t.Error("one beginning approved two containers")
	}
	got, err := w.Approve("web", "web")
	if err != nil || len(got) != 1 || got[0].Reader != w.subject(web).Container {
		t.Fatalf("approved %+v, %v", got, err)
	}
	if e := w.log.last(t); e.Action != audit.ActionApprove || e.Container != w.subject(web).Container || e.Tree != "web" {
		t.Errorf("record: %+v", e)
	}
	if e := w.Explain(t.Context(), web, "web"); !e.Allowed {
		t.Errorf("explained: %+v", e)
	}
	if e := w.Explain(t.Context(), api, "web"); e.Allowed || e.Reason != reason {
		t.Errorf("explained: %+v", e)
	}
	w.read(t, web, "web")
	w.log.since()
	w.denied(t, api, "web", iofs.ErrPermission, reason)
	w.restart(t)
	w.read(t, web, "web")
	w.log.since()
	w.att.end(web.TID)
	w.denied(t, web, "web", iofs.ErrPermission, reason)
}

// Fail closed: an approval that cannot be recorded is not given.
func TestApprovalFailsClosedWithoutAudit(t *testing.T) {
	w := newWorld(t, allow("approval: first-read"))
	w.login(t, "default")
	web := w.container("web", "web")
	w.denied(t, web, "web", iofs.ErrPermission, "needs an approval")
	if _, err := w.StateDir("web"); err != nil {
		t.Fatal(err)
	}
	w.log.fail(errors.New("disk full"))
	if _, err := w.Approve("web", ""); err == nil {
		t.Error("approved without a record")
	}
	w.log.fail(nil)
	w.denied(t, web, "web", iofs.ErrPermission, "needs an approval")
}

// A container that was just started again is not refused for what its runtime said before; one that contradicts what
// the runtime says now is.
func TestRestartedContainer(t *testing.T) {
	w := newWorld(t, allow("login: deny"))
	w.login(t, "default")
	c := w.container("web", "web")
	old := w.facts(c)
	w.att.gone = old.InitPID
	w.denied(t, c, "web", iofs.ErrPermission, "first process is gone")
	now := *old
	now.InitPID = 77
	w.engine.late = map[string]*identity.Facts{old.ID: &now}
	w.read(t, c, "web")
}

// memory outlives a broker.
type memory map[string][]byte

func (m memory) Save(tree string, notes []byte) error {
	m[tree] = slices.Clone(notes)
	return nil
}

func (m memory) Load(tree string) []byte { return slices.Clone(m[tree]) }

func (m memory) Trees() []string { return slices.Sorted(maps.Keys(m)) }

// Fail closed: a container whose end nobody would notice may not leave files in an ephemeral tree.
func TestEphemeralTreeNeedsAWitness(t *testing.T) {
	w := newWorld(t, allow("state: ephemeral"), func(c *broker.Config) { c.EphemeralDir = t.TempDir() })
	pid := uint32(os.Getpid()) // of which there is a mount namespace
	c := w.container("web", "web")
	w.att.subjects[pid] = w.subject(c)
	w.att.blind = errors.New("no first process")
	if err := w.Use(t.Context(), identity.Caller{TID: pid}, "web"); !errors.Is(err, iofs.ErrPermission) {
		t.Errorf("without a witness: %v", err)
	}
	w.att.blind = nil
	if err := w.Use(t.Context(), identity.Caller{TID: pid}, "web"); err != nil {
		t.Errorf("with one: %v", err)
	}
}

// Where a tree's files are does not change while the mount lasts, whatever the policy says later.
func TestEphemeralPlaceStays(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, allow("state: ephemeral"), func(c *broker.Config) { c.EphemeralDir, c.Memory = dir, memory{} })
	first, err := w.StateDir("web")
	if err != nil || first != dir+"/web" {
		t.Fatalf("%s, %v", first, err)
	}
	w.cfg.Policy = parse(t, allow("login: deny"))
	w.SetPolicy(w.cfg.Policy)
	if got, err := w.StateDir("web"); err != nil || got != first {
		t.Errorf("after another policy: %s, %v", got, err)
	}
	w.restart(t)
	if got, err := w.StateDir("web"); err != nil || got != first {
		t.Errorf("in another server: %s, %v", got, err)
	}
	if got, err := w.StateDir("new"); err != nil || got == dir+"/new" {
		t.Errorf("another tree: %s, %v", got, err)
	}
}
