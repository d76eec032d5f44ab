package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

// many is a policy of n rules, of which the last decides.
func many(t testing.TB, n int) *policy.Policy {
	t.Helper()
	var rules strings.Builder
	for i := range n - 1 {
		fmt.Fprintf(&rules, "  - {name: r%d, match: {tree: \"team-%d-*\", container: {image: \"ghcr.io/acme/%d-*\", labels: {team: t%d}}}, allow: {level: isolated}}\n", i, i, i, i)
	}
	rules.WriteString("  - {name: last, match: {tree: \"web-*\", container: {image: \"ghcr.io/acme/*\", labels: {team: shop}}}, allow: {level: isolated}}\n")
	return parse(t, rules.String())
}

func BenchmarkDecide(b *testing.B) {
	q := policy.Request{Tree: "web-1", Subject: inContainer(), Facts: &identity.Facts{Image: "ghcr.io/acme/web:1", Labels: map[string]string{"team": "shop"}}}
	for _, n := range []int{10, 1000} {
		p := many(b, n)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for b.Loop() {
				if d := p.Decide(q); d.Rule != "last" {
					b.Fatalf("got %+v", d)
				}
			}
		})
	}
}
