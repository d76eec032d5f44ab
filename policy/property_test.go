package policy_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

// A small world, so that rules and requests meet.
var (
	trees  = rapid.SampledFrom([]string{"a", "b", "web-1"})
	globs  = rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "web-*", "*", "z"}), 1, 2)
	levels = rapid.SampledFrom([]policy.Level{policy.LevelShared, policy.LevelProject, policy.LevelIsolated})
)

var rule = rapid.Custom(func(t *rapid.T) policy.Rule {
	r := policy.Rule{Name: rapid.StringMatching(`[a-z]{8}`).Draw(t, "name")}
	if rapid.Bool().Draw(t, "by tree") {
		r.Match.Tree = globs.Draw(t, "tree")
	}
	switch rapid.IntRange(0, 3).Draw(t, "whom") {
	case 0:
		r.Match.Host = &policy.HostMatch{UID: []uint32{rapid.Uint32Range(0, 2).Draw(t, "uid")}}
	case 1:
		r.Match.Container = &policy.ContainerMatch{}
	case 2:
		r.Match.Container = &policy.ContainerMatch{Name: globs.Draw(t, "container"), Labels: map[string]policy.Globs{"k": globs.Draw(t, "label")}}
	}
	if c := r.Match.Container; c != nil {
		c.User = rapid.SampledFrom([]policy.Globs{nil, {"root"}, {"1000"}}).Draw(t, "user")
		c.Privileged = rapid.SampledFrom([]*bool{nil, ptr(true), ptr(false)}).Draw(t, "powers")
	}
	if rapid.Bool().Draw(t, "by uid") {
		r.Match.UID = []uint32{rapid.Uint32Range(0, 2).Draw(t, "caller's uid")}
	}
	if rapid.Bool().Draw(t, "deny") {
		r.Deny = "no"
	} else {
		r.Allow = &policy.Allow{
			Level:   levels.Draw(t, "level"),
			Account: rapid.SampledFrom([]string{"", "x", "{tree}", "{project}", "{container}"}).Draw(t, "account"),
		}
		if rapid.Bool().Draw(t, "limited") {
			r.Allow = tighter(*r.Allow).Draw(t, "limits")
		}
	}
	return r
})

func ptr[T any](v T) *T { return &v }

// tighter is the same allow with one more restriction, or one made narrower.
func tighter(a policy.Allow) *rapid.Generator[*policy.Allow] {
	return rapid.Custom(func(t *rapid.T) *policy.Allow {
		switch rapid.IntRange(0, 5).Draw(t, "restriction") {
		case 0:
			a.TTL = policy.Duration(time.Hour)
		case 1:
			a.Hours = hours
		case 2:
			a.Privileged = "deny"
		case 3:
			a.Credential = policy.CredentialNone
		case 4:
			a.Login = policy.LoginDeny
		default:
			a.Scopes, a.ReadsPerMinute = []string{"x"}, 1
		}
		return &a
	})
}

// hours are in the middle of the day, UTC.
var hours = func() policy.Hours {
	p, err := policy.Parse("hours", []byte("version: 1\nrules: [{name: x, allow: {level: shared, hours: \"10:00-14:00 UTC\"}}]\n"))
	if err != nil {
		panic(err)
	}
	return p.Rules[0].Allow.Hours
}()

var request = rapid.Custom(func(t *rapid.T) policy.Request {
	q := policy.Request{Tree: trees.Draw(t, "tree"), Subject: onHost(rapid.Uint32Range(0, 2).Draw(t, "uid"))}
	q.Now = time.Date(2026, 11, 2, rapid.SampledFrom([]int{3, 12}).Draw(t, "hour"), 0, 0, 0, time.UTC)
	if age := rapid.IntRange(-1, 1).Draw(t, "age"); age >= 0 {
		started := q.Now.Add(-time.Duration(age) * 2 * time.Hour)
		q.Started = func() (time.Time, error) { return started, nil }
	}
	if rapid.Bool().Draw(t, "host") {
		return q
	}
	uid := q.Subject.Caller.UID
	q.Subject = inContainer()
	q.Subject.Caller.UID = uid
	switch rapid.IntRange(0, 3).Draw(t, "facts") {
	case 0:
		q.FactsErr = errDown
	case 1:
	default:
		q.Facts = &identity.Facts{Name: trees.Draw(t, "name"), Labels: map[string]string{"k": trees.Draw(t, "k"), identity.LabelProject: trees.Draw(t, "project")}}
		q.Facts.User = rapid.SampledFrom([]string{"", "1000:1000"}).Draw(t, "user")
		q.Facts.Powers = rapid.SampledFrom([][]string{nil, {"privileged"}}).Draw(t, "powers")
	}
	return q
})

func TestPropertyDecisions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &policy.Policy{Version: 1, Rules: rapid.SliceOfN(rule, 0, 5).Draw(t, "rules")}
		q := request.Draw(t, "request")
		d := p.Decide(q)
		i := slices.IndexFunc(p.Rules, func(r policy.Rule) bool { return r.Name == d.Rule })

		// Default deny: only a rule that allows allows, and only what it says.
		if d.Allowed && (i < 0 || p.Rules[i].Allow == nil || p.Rules[i].Allow.Level != d.Level) {
			t.Fatalf("allowed by no rule: %+v", d)
		}
		if d.Reason == "" {
			t.Fatal("decision without a reason")
		}
		// First match: what stands after the rule that decided changes nothing, and no rule before it decides alone.
		if i >= 0 {
			if got := (&policy.Policy{Rules: p.Rules[:i+1]}).Decide(q); !cmp.Equal(got, d) {
				t.Fatalf("rules after the deciding one matter: %+v, %+v", got, d)
			}
			for _, before := range p.Rules[:i] {
				if got := (&policy.Policy{Rules: []policy.Rule{before}}).Decide(q); got.Rule != "" {
					t.Fatalf("rule %q decides alone but did not: %+v", before.Name, got)
				}
			}
		}
		// What is allowed to somebody exists.
		if d.Allowed && !p.Visible(q.Tree) {
			t.Fatalf("allowed and not visible: %+v", d)
		}
		if _, _, ok := p.Expected(q.Tree); !ok && d.Allowed && p.Rules[i].Allow.Credential != policy.CredentialNone && !anyNone(p) {
			t.Fatalf("allowed and nothing expected: %+v", d)
		}
		// Explain is Decide, and ends with the rule that decided.
		explained, steps := p.Explain(q)
		if !cmp.Equal(explained, d) || len(steps) > 0 && steps[len(steps)-1].Decides != (i >= 0) {
			t.Fatalf("explained %+v by %+v, decided %+v", explained, steps, d)
		}
		for _, s := range steps {
			if s.Why == "" {
				t.Fatalf("rule %q says nothing: %+v", s.Rule, steps)
			}
		}
	})
}

// In a policy whose other rules all allow, taking one away can only narrow; so can it when nothing stands behind it.
func TestPropertyRemovingAnAllowNeverWidens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rule, 1, 5).Draw(t, "rules")
		i := rapid.IntRange(0, len(rules)-1).Draw(t, "which")
		q := request.Draw(t, "request")
		if rules[i].Allow == nil {
			t.Skip("a deny")
		}
		before := (&policy.Policy{Rules: rules}).Decide(q)
		after := (&policy.Policy{Rules: slices.Delete(slices.Clone(rules), i, i+1)}).Decide(q)
		if !after.Allowed || before.Allowed {
			return
		}
		// The removed rule had said no by a condition of its level, and a later rule now says yes: that rule must have
		// been written as an allow for this very request.
		if before.Rule != rules[i].Name {
			t.Fatalf("removing %q, which did not decide, widened: %+v, then %+v", rules[i].Name, before, after)
		}
		alone := (&policy.Policy{Rules: []policy.Rule{rules[slices.IndexFunc(rules, func(r policy.Rule) bool { return r.Name == after.Rule })]}}).Decide(q)
		if !cmp.Equal(alone, after) {
			t.Fatalf("allowed by %q only in company: %+v, %+v", after.Rule, alone, after)
		}
	})
}

func anyNone(p *policy.Policy) bool {
	return slices.ContainsFunc(p.Rules, func(r policy.Rule) bool {
		return r.Allow != nil && r.Allow.Credential == policy.CredentialNone
	})
}

// No field of an allow can widen: with one more restriction nothing is allowed that was not.
func TestPropertyRestrictionsOnlyNarrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &policy.Policy{Version: 1, Rules: rapid.SliceOfN(rule, 1, 5).Draw(t, "rules")}
		i := rapid.IntRange(0, len(p.Rules)-1).Draw(t, "which")
		if p.Rules[i].Allow == nil {
			t.Skip("a deny")
		}
		q := request.Draw(t, "request")
		narrow := &policy.Policy{Version: 1, Rules: slices.Clone(p.Rules)}
		narrow.Rules[i].Allow = tighter(*p.Rules[i].Allow).Draw(t, "tighter")
		before, after := p.Decide(q), narrow.Decide(q)
		if after.Allowed && (!before.Allowed || before.Rule != after.Rule || before.Account != after.Account) {
			t.Fatalf("%+v became %+v", before, after)
		}
	})
}

// Nothing behind a deny that matches can undo it, whatever it says.
func TestPropertyNothingWidensADeny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := request.Draw(t, "request")
		deny := policy.Rule{Name: "first", Deny: "no", Match: policy.Match{Tree: policy.Globs{q.Tree}}}
		if q.Subject.Host {
			deny.Match.Host = &policy.HostMatch{UID: []uint32{q.Subject.Caller.UID}}
		}
		p := &policy.Policy{Version: 1, Rules: append([]policy.Rule{deny}, rapid.SliceOfN(rule, 0, 5).Draw(t, "rules")...)}
		if d := p.Decide(q); d.Allowed || d.Rule != "first" {
			t.Fatalf("got %+v", d)
		}
	})
}
