package policy_test

import (
	"slices"
	"testing"

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
	if rapid.Bool().Draw(t, "deny") {
		r.Deny = "no"
	} else {
		r.Allow = &policy.Allow{Level: levels.Draw(t, "level"), Account: rapid.SampledFrom([]string{"", "x", "{tree}", "{project}"}).Draw(t, "account")}
	}
	return r
})

var request = rapid.Custom(func(t *rapid.T) policy.Request {
	q := policy.Request{Tree: trees.Draw(t, "tree"), Subject: onHost(rapid.Uint32Range(0, 2).Draw(t, "uid"))}
	if rapid.Bool().Draw(t, "host") {
		return q
	}
	q.Subject = inContainer()
	switch rapid.IntRange(0, 3).Draw(t, "facts") {
	case 0:
		q.FactsErr = errDown
	case 1:
	default:
		q.Facts = &identity.Facts{Name: trees.Draw(t, "name"), Labels: map[string]string{"k": trees.Draw(t, "k"), identity.LabelProject: trees.Draw(t, "project")}}
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
		if d.Allowed {
			if _, _, ok := p.Expected(q.Tree); !ok {
				t.Fatalf("allowed and nothing expected: %+v", d)
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
