package policy_test

import (
	"testing"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

// Each condition holds for what it names, and says what it found when it does not.
func TestConditions(t *testing.T) {
	facts := func(change func(*identity.Facts)) *identity.Facts {
		f := &identity.Facts{
			Name: "web-1", Image: "ghcr.io/acme/web:1", ImageID: "sha256:aa", Digests: []string{"sha256:bb"}, Runtime: "docker", User: "1000:1000",
			Labels: map[string]string{
				identity.LabelComposeProject: "shop", identity.LabelComposeService: "web",
				identity.LabelPod: "web-x1", identity.LabelNamespace: "prod", "team": "shop",
			},
		}
		if change != nil {
			change(f)
		}
		return f
	}
	root := func(f *identity.Facts) { f.User = "" }
	powers := func(f *identity.Facts) { f.Powers = []string{"host pid", "SYS_ADMIN"} }
	for _, c := range []struct {
		match  string
		change func(*identity.Facts)
		want   string // why it does not match; "" when it does
	}{
		{`{tree: t}`, nil, ""},
		{`{tree: [a, "b-*"]}`, nil, `tree: "t" is not a or b-*`},
		{`{uid: [0, 7]}`, nil, ""},
		{`{uid: [1, 2]}`, nil, `uid: "7" is not 1 or 2`},
		{`{host: {uid: [7]}}`, nil, "the caller is in a container"},
		{`{container: {name: "web-*"}}`, nil, ""},
		{`{container: {name: api}}`, nil, `container.name: "web-1" is not api`},
		{`{container: {image: ghcr.io/acme/web}}`, nil, ""},
		{`{container: {image: nginx}}`, nil, `container.image: "ghcr.io/acme/web:1" is not nginx`},
		{`{container: {digest: "sha256:aa"}}`, nil, ""},
		{`{container: {digest: "sha256:bb"}}`, nil, ""},
		{`{container: {digest: "sha256:cc"}}`, nil, `container.digest: "sha256:aa" is not sha256:cc`},
		{`{container: {compose_project: shop}}`, nil, ""},
		{`{container: {compose_project: other}}`, nil, `container.compose_project: "shop" is not other`},
		{`{container: {compose_service: [web, api]}}`, nil, ""},
		{`{container: {compose_service: api}}`, nil, `container.compose_service: "web" is not api`},
		{`{container: {runtime: docker}}`, nil, ""},
		{`{container: {runtime: podman}}`, nil, `container.runtime: "docker" is not podman`},
		{`{container: {pod: "web-*", namespace: prod}}`, nil, ""},
		{`{container: {pod: api}}`, nil, `container.pod: "web-x1" is not api`},
		{`{container: {namespace: test}}`, nil, `container.namespace: "prod" is not test`},
		{`{container: {pod: "*"}}`, func(f *identity.Facts) { delete(f.Labels, identity.LabelPod) }, "container.pod: there is none, want *"},
		{`{container: {user: 1000}}`, nil, ""},
		{`{container: {user: "1000:1000"}}`, nil, ""},
		{`{container: {user: root}}`, nil, `container.user: "1000:1000" is not root`},
		{`{container: {user: root}}`, root, ""},
		{`{container: {user: 0}}`, root, ""},
		{`{container: {user: "*"}}`, root, ""},
		{`{container: {user: 1000}}`, root, `container.user: "root" is not 1000`},
		{`{container: {labels: {team: shop}}}`, nil, ""},
		{`{container: {labels: {team: web, x: y}}}`, nil, `container.labels.team: "shop" is not web`},
		{`{container: {labels: {team: shop, x: y}}}`, nil, "container.labels.x: there is none, want y"},
		{`{container: {privileged: false}}`, nil, ""},
		{`{container: {privileged: true}}`, nil, "container.privileged: it has no power to become another container"},
		{`{container: {privileged: true}}`, powers, ""},
		{`{container: {privileged: false}}`, powers, "container.privileged: it has host pid, SYS_ADMIN"},
	} {
		s := inContainer()
		s.Caller.UID = 7
		q := policy.Request{Tree: "t", Subject: s, Facts: facts(c.change)}
		p := parse(t, "  - {name: r, match: "+c.match+", allow: {level: shared}}\n")
		d, steps := p.Explain(q)
		if d.Allowed != (c.want == "") || len(steps) != 1 || c.want != "" && steps[0] != (policy.Step{Rule: "r", Why: c.want}) {
			t.Errorf("%s: %+v, want %q", c.match, steps, c.want)
		}
	}
}

func TestHostConditions(t *testing.T) {
	for _, c := range []struct{ match, exe, want string }{
		{`{host: {uid: [7], exe: /usr/bin/claude}}`, "/usr/bin/claude", ""},
		{`{host: {uid: [7], exe: "/usr/lib/**"}}`, "/usr/lib/node/bin/node", ""},
		{`{host: {uid: [7], exe: /usr/bin/claude}}`, "/home/me/claude", `host.exe: "/home/me/claude" is not /usr/bin/claude`},
		{`{host: {uid: [7], exe: "**"}}`, "", `host.exe: there is none, want **`},
		{`{host: {uid: [8]}}`, "/x", `host.uid: "7" is not 8`},
		{`{uid: [8], host: {uid: [7]}}`, "/x", `uid: "7" is not 8`},
		{`{container: {}}`, "/x", "the caller is a host process"},
	} {
		s := onHost(7)
		s.Program = func() string { return c.exe }
		d, steps := parse(t, "  - {name: r, match: "+c.match+", allow: {level: shared}}\n").Explain(policy.Request{Tree: "t", Subject: s})
		if d.Allowed != (c.want == "") || c.want != "" && steps[0].Why != c.want {
			t.Errorf("%s, %q: %+v, want %q", c.match, c.exe, steps, c.want)
		}
	}
}

// A rule that asks for no program has nobody look for it.
func TestProgramIsAskedByRulesThatNameOne(t *testing.T) {
	for match, want := range map[string]bool{`{host: {uid: [7]}}`: false, `{container: {}}`: false, `{host: {uid: [8], exe: /x}}`: false, `{host: {uid: [7], exe: /x}}`: true} {
		s, asked := onHost(7), false
		s.Program = func() string { asked = true; return "/x" }
		parse(t, "  - {name: r, match: "+match+", allow: {level: shared}}\n").Decide(policy.Request{Tree: "t", Subject: s})
		if asked != want {
			t.Errorf("%s: asked %v", match, asked)
		}
	}
}

// Explain says of each rule why it missed, and stops at the one that decides.
func TestExplain(t *testing.T) {
	p := parse(t, web)
	d, steps := p.Explain(policy.Request{Tree: "web-1", Subject: inContainer(), Facts: &identity.Facts{Image: "ghcr.io/acme/web:1", Labels: map[string]string{"team": "x"}}})
	want := []policy.Step{
		{Rule: "web", Why: `container.labels.team: "x" is not shop or web`},
		{Rule: "me", Why: "the caller is in a container"},
		{Rule: "rest", Why: "nothing for you", Decides: true},
	}
	if d.Allowed || d.Rule != "rest" || len(steps) != 3 || steps[0] != want[0] || steps[1] != want[1] || steps[2] != want[2] {
		t.Errorf("%+v, %+v", d, steps)
	}
	_, steps = p.Explain(policy.Request{Tree: "web-1", Subject: inContainer()})
	if steps[0].Why != "no container runtime is configured" {
		t.Errorf("without a runtime: %+v", steps)
	}
	if _, steps = p.Explain(policy.Request{Tree: "web-1", Subject: inContainer(), FactsErr: errDown}); len(steps) != 1 || !steps[0].Decides {
		t.Errorf("runtime down: %+v", steps)
	}
}
