package broker_test

import (
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

func given(c *broker.Config) { c.AccountGiven = true }

func TestChooseAccount(t *testing.T) {
	rule := "  - {name: r, match: {container: {}}, allow: {level: isolated, account: work, privileged: allow}}\n"
	for _, tt := range []struct {
		name, policy string
		have         []vault.AccountID
		project      string
		given        bool
		want         string // "": refused
	}{
		{name: "shared takes the default", policy: "shared", have: []vault.AccountID{"default", "web"}, want: "default"},
		{name: "isolated takes its own", policy: "isolated", have: []vault.AccountID{"default", "web"}, given: true, want: "web"},
		{name: "isolated without its own", policy: "isolated", have: []vault.AccountID{"default"}},
		{name: "isolated with --account", policy: "isolated", have: []vault.AccountID{"default"}, given: true, want: "default"},
		{name: "project takes its own", policy: "project", project: "web", have: []vault.AccountID{"default", "web"}, want: "web"},
		{name: "project without its own", policy: "project", project: "web", have: []vault.AccountID{"default"}},
		{name: "project with --account", policy: "project", project: "web", have: []vault.AccountID{"default"}, given: true, want: "default"},
		{name: "the rule's", policy: rule, have: []vault.AccountID{"default", "web", "work"}, want: "work"},
		{name: "the rule's is missing", policy: rule, have: []vault.AccountID{"default", "web"}, given: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.policy, func(c *broker.Config) { c.AccountGiven = tt.given })
			for _, a := range tt.have {
				w.login(t, a)
			}
			c := w.container("web", "web")
			w.facts(c).Labels["dev.claudefs.project"] = tt.project
			before, _ := w.Stat("web")
			_, err := w.Open(t.Context(), c, "web")
			if tt.want == "" {
				wantErr(t, err, policyRefusal)
				return
			}
			wantErr(t, err, nil)
			if got := w.log.last(t).Account; got != tt.want {
				t.Errorf("got account %q, want %q", got, tt.want)
			}
			if after, err := w.Stat("web"); err != nil || after != before {
				t.Errorf("the first reader changed the file: got %+v %v, want %+v", after, err, before)
			}
		})
	}
}

// Status says which import would help a tree without a login.
func TestStatusHint(t *testing.T) {
	for _, tt := range []struct{ policy, account, hint string }{
		{"isolated", "", "claudefs import --account web FILE"},
		{"shared", "", "claudefs import --account default FILE"},
		{"  - {name: r, match: {container: {}}, allow: {level: shared, account: work}}\n", "", "claudefs import --account work FILE"},
	} {
		w := newWorld(t, tt.policy)
		if _, err := w.StateDir("web"); err != nil {
			t.Fatal(err)
		}
		c := w.container("web", "web")
		if _, err := w.Open(t.Context(), c, "web"); err == nil {
			t.Errorf("%s: opened without a login", tt.policy)
		}
		st := w.Status()
		if len(st) != 1 || st[0].Hint != tt.hint || st[0].Account != "" || st[0].Name != "web" ||
			st[0].Container != w.subject(c).Container || st[0].Outcome == "allowed" || st[0].LastRead.IsZero() {
			t.Errorf("%s: got %+v, want hint %q", tt.policy, st, tt.hint)
		}
		account := vault.AccountID(strings.Fields(tt.hint)[3])
		w.login(t, account)
		w.open(t, c, "web")
		if st := w.Status(); st[0].Hint != "" || st[0].Account != string(account) || st[0].Outcome != "allowed" || st[0].ContainerName != "web" {
			t.Errorf("%s: after the import got %+v", tt.policy, st)
		}
	}
}

// One tree, one account: a rule that would give another reader of the tree another account is refused.
func TestPinRefusesAnotherAccount(t *testing.T) {
	w := newWorld(t, `
  - {name: a, match: {container: {name: a}}, allow: {level: shared, account: work}}
  - {name: b, match: {container: {name: b}}, allow: {level: shared, account: home}}
  - {name: c, match: {container: {name: c}}, allow: {level: shared, account: work, refresh_token: "null"}}
`)
	w.login(t, "work")
	home := w.login(t, "home")
	a, b, c := w.container("a", "web"), w.container("b", "web"), w.container("c", "web")
	w.open(t, a, "web")
	w.log.since()
	s, err := w.Open(t.Context(), b, "web")
	wantErr(t, err, policy.ErrDenied)
	if s != nil {
		t.Error("a snapshot was returned")
	}
	e := w.log.last(t)
	if e.Outcome != audit.Denied || e.Rule != "b" || e.Container != w.subject(b).Container ||
		!strings.Contains(e.Reason, `pinned to account "work", the rule gives "home"`) {
		t.Errorf("got %+v", e)
	}
	if got := w.read(t, c, "web"); got.refresh != "" {
		t.Errorf("refresh_token null: got %q", got.refresh)
	}
	// Another tree is another matter.
	w.subject(b).Roots, w.facts(b).Mounts = []string{"/other"}, nil
	w.facts(b).Mounts = append(w.facts(b).Mounts, w.facts(a).Mounts...)
	w.facts(b).Mounts[0].Source = mountpoint + "/other"
	if got := w.read(t, b, "other").access; got != home.AccessToken {
		t.Errorf("other tree: got %q, want that of home", got)
	}
}

func TestIsolatedTreeHasOneContainer(t *testing.T) {
	w := newWorld(t, "isolated", given)
	w.login(t, "default")
	if _, err := w.StateDir("web"); err != nil {
		t.Fatal(err)
	}
	a, b := w.container("a", "web"), w.container("b", "web")
	w.open(t, a, "web")
	if st := w.Status(); st[0].Owner != w.subject(a).Container {
		t.Errorf("owner %q, want %q", st[0].Owner, w.subject(a).Container)
	}
	w.log.since()
	_, err := w.Open(t.Context(), b, "web")
	wantErr(t, err, policy.ErrDenied)
	if e := w.log.last(t); !strings.Contains(e.Reason, "belongs to container "+w.subject(a).Container[:12]) {
		t.Errorf("got %q", e.Reason)
	}
	_, err = w.Write(t.Context(), b, "web")
	wantErr(t, err, policy.ErrDenied)
	wantErr(t, w.Acquire(t.Context(), b, "web"), policy.ErrDenied)
	// Another process of the same container is welcome. The claim ends with the container's first process.
	again := w.container("a2", "web")
	w.att.subjects[again.TID] = w.subject(a)
	w.open(t, again, "web")
	w.att.end(again.TID)
	_, err = w.Open(t.Context(), b, "web")
	wantErr(t, err, policy.ErrDenied)
	w.att.end(a.TID)
	w.open(t, b, "web")
	_, err = w.Open(t.Context(), again, "web") // should it still be there, it has lost the tree
	wantErr(t, err, policy.ErrDenied)
}
