package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

func parse(t testing.TB, rules string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("test", []byte("version: 1\nrules:\n"+rules))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func inContainer() *identity.Subject {
	return &identity.Subject{Container: strings.Repeat("a", 64), Runtime: "docker"}
}

func onHost(uid uint32) *identity.Subject {
	return &identity.Subject{Host: true, Caller: identity.Caller{TID: 1, UID: uid}}
}

var errDown = errors.New("runtime is down")

const web = `
  - name: web
    match: {tree: "web-*", container: {image: "ghcr.io/acme/*", labels: {team: [shop, web]}}}
    allow: {level: shared, account: work, login: deny, refresh_token: "null"}
  - name: me
    match: {tree: [web-1, mine], host: {uid: [1000, 1001]}}
    allow: {level: shared, account: "{tree}"}
  - name: rest
    match: {container: {}}
    deny: "nothing for you"
`

func TestDecide(t *testing.T) {
	shop := &identity.Facts{Image: "ghcr.io/acme/web:1", Labels: map[string]string{"team": "shop"}}
	for _, c := range []struct {
		name string
		q    policy.Request
		want policy.Decision
	}{
		{
			"all conditions hold",
			policy.Request{Tree: "web-1", Subject: inContainer(), Facts: shop},
			policy.Decision{Allowed: true, Rule: "web", Reason: "rule web", Level: "shared", Account: "work", Credential: "oauth", Login: "deny", RefreshToken: "null"},
		},
		{"another tree", policy.Request{Tree: "api", Subject: inContainer(), Facts: shop}, policy.Decision{Rule: "rest", Reason: "nothing for you"}},
		{
			"another label",
			policy.Request{Tree: "web-1", Subject: inContainer(), Facts: &identity.Facts{Image: shop.Image, Labels: map[string]string{"team": "x"}}},
			policy.Decision{Rule: "rest", Reason: "nothing for you"},
		},
		{
			"no label",
			policy.Request{Tree: "web-1", Subject: inContainer(), Facts: &identity.Facts{Image: shop.Image}},
			policy.Decision{Rule: "rest", Reason: "nothing for you"},
		},
		{
			"another image",
			policy.Request{Tree: "web-1", Subject: inContainer(), Facts: &identity.Facts{Image: "ghcr.io/acme/deep/web", Labels: shop.Labels}},
			policy.Decision{Rule: "rest", Reason: "nothing for you"},
		},
		{
			"host with a rule",
			policy.Request{Tree: "mine", Subject: onHost(1001)},
			policy.Decision{Allowed: true, Rule: "me", Reason: "rule me", Level: "shared", Account: "mine", OwnAccount: true, Credential: "oauth", Login: "capture", RefreshToken: "surrogate"},
		},
		{"host without a rule", policy.Request{Tree: "mine", Subject: onHost(0)}, policy.Decision{Reason: "no rule names this host process"}},
		{"host, another tree", policy.Request{Tree: "web-2", Subject: onHost(1000)}, policy.Decision{Reason: "no rule names this host process"}},
		{
			"container is no host",
			policy.Request{Tree: "mine", Subject: &identity.Subject{Container: "x", Caller: identity.Caller{UID: 1000}}},
			policy.Decision{Rule: "rest", Reason: "nothing for you"},
		},
		{
			"runtime down",
			policy.Request{Tree: "web-1", Subject: inContainer(), FactsErr: errDown},
			policy.Decision{Rule: "web", Reason: `rule "web" needs facts from the container runtime: runtime is down`},
		},
		{
			"runtime down, rule not about this tree",
			policy.Request{Tree: "api", Subject: inContainer(), FactsErr: errDown},
			policy.Decision{Rule: "rest", Reason: "nothing for you"},
		},
	} {
		if diff := cmp.Diff(c.want, parse(t, web).Decide(c.q)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
	}
}

func TestDefaultIsDeny(t *testing.T) {
	p := parse(t, "  - {name: a, match: {tree: a}, allow: {level: shared}}\n")
	if d := p.Decide(policy.Request{Tree: "b", Subject: inContainer()}); d.Allowed || d.Rule != "" || d.Reason != "no rule matches" {
		t.Errorf("got %+v", d)
	}
	// A rule without container and host is for containers.
	if d := p.Decide(policy.Request{Tree: "a", Subject: onHost(0)}); d.Allowed {
		t.Errorf("host: got %+v", d)
	}
}

func TestFirstMatchDecides(t *testing.T) {
	p := parse(t, "  - {name: a, match: {tree: a*}, deny: first}\n  - {name: b, allow: {level: shared}}\n")
	if d := p.Decide(policy.Request{Tree: "abc", Subject: inContainer()}); d.Allowed || d.Reason != "first" {
		t.Errorf("got %+v", d)
	}
	if d := p.Decide(policy.Request{Tree: "xabc", Subject: inContainer()}); !d.Allowed || d.Rule != "b" {
		t.Errorf("got %+v", d)
	}
}

// A rule whose match cannot be known decides "no"; a later rule that would allow must not be reached.
func TestRuntimeDownStopsAtTheRuleThatNeedsIt(t *testing.T) {
	p := parse(t, "  - {name: a, match: {container: {labels: {x: y}}}, deny: no}\n  - {name: b, allow: {level: shared}}\n")
	if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), FactsErr: errDown}); d.Allowed || d.Rule != "a" {
		t.Errorf("got %+v", d)
	}
	p = parse(t, "  - {name: b, allow: {level: shared}}\n  - {name: a, match: {container: {labels: {x: y}}}, deny: no}\n")
	if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), FactsErr: errDown}); !d.Allowed {
		t.Errorf("a rule on kernel facts before it: got %+v", d)
	}
}

// Without a runtime, or for a container that none made, a deny on facts must hold: the container could be the one.
func TestDenyOnFactsHoldsWithoutRuntime(t *testing.T) {
	p := parse(t, "  - {name: a, match: {container: {labels: {trust: none}}}, deny: no}\n  - {name: b, allow: {level: shared}}\n")
	if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer()}); d.Allowed || d.Rule != "a" {
		t.Errorf("got %+v", d)
	}
	p = parse(t, "  - {name: a, match: {container: {labels: {trust: all}}}, allow: {level: shared, account: a}}\n  - {name: b, allow: {level: shared, account: b}}\n")
	if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer()}); d.Account != "b" {
		t.Errorf("an allow on facts without facts: got %+v", d)
	}
}

func TestLevels(t *testing.T) {
	project := func(p string) *identity.Facts {
		return &identity.Facts{Labels: map[string]string{identity.LabelComposeProject: p}}
	}
	powers := &identity.Facts{Powers: []string{"privileged", "SYS_ADMIN"}}
	for _, c := range []struct {
		name, allow string
		q           policy.Request
		reason      string // "" means allowed
	}{
		{"shared", "level: shared", policy.Request{Subject: inContainer()}, ""},
		{"shared, powers", "level: shared", policy.Request{Subject: inContainer(), Facts: powers}, ""},
		{"shared, powers refused", "level: shared, privileged: deny", policy.Request{Subject: inContainer(), Facts: powers}, "container could become another one: privileged, SYS_ADMIN"},
		{"shared, powers refused but unknown", "level: shared, privileged: deny", policy.Request{Subject: inContainer(), FactsErr: errDown}, "rule needs to know the container's powers: runtime is down"},
		{"shared, runtime down", "level: shared", policy.Request{Subject: inContainer(), FactsErr: errDown}, ""},
		{"project", "level: project", policy.Request{Subject: inContainer(), Facts: project("t")}, ""},
		{"project, powers", "level: project", policy.Request{Subject: inContainer(), Facts: &identity.Facts{Labels: project("t").Labels, Powers: powers.Powers}}, ""},
		{"another project", "level: project", policy.Request{Subject: inContainer(), Facts: project("T")}, `container's project is "T", not the tree's name`},
		{"no project", "level: project", policy.Request{Subject: inContainer(), Facts: &identity.Facts{}}, `container's project is "", not the tree's name`},
		{"project, no runtime", "level: project", policy.Request{Subject: inContainer()}, "project level needs the container's project: no container runtime is configured"},
		{"project, runtime down", "level: project", policy.Request{Subject: inContainer(), FactsErr: errDown}, "project level needs the container's project: runtime is down"},
		{"isolated", "level: isolated", policy.Request{Subject: inContainer(), Facts: &identity.Facts{}}, ""},
		{"isolated, kernel facts only", "level: isolated, privileged: deny", policy.Request{Subject: inContainer()}, ""},
		{"isolated, runtime down", "level: isolated", policy.Request{Subject: inContainer(), FactsErr: errDown}, "rule needs to know the container's powers: runtime is down"},
		{"isolated, powers", "level: isolated", policy.Request{Subject: inContainer(), Facts: powers}, "container could become another one: privileged, SYS_ADMIN"},
		{"isolated, powers allowed", "level: isolated, privileged: allow", policy.Request{Subject: inContainer(), Facts: powers}, ""},
		{"isolated, powers allowed, down", "level: isolated, privileged: allow", policy.Request{Subject: inContainer(), FactsErr: errDown}, ""},
		{"account of a project that is none", `level: shared, account: "{project}"`, policy.Request{Subject: inContainer()}, "rule takes the account from the container's project, and it has none"},
		{"account of a project that is no name", `level: shared, account: "{project}"`, policy.Request{Subject: inContainer(), Facts: project("../x")}, "rule takes the account from the container's project, and it has none"},
	} {
		c.q.Tree = "t"
		d := parse(t, "  - {name: r, allow: {"+c.allow+"}}\n").Decide(c.q)
		want := c.reason
		if want == "" {
			want = "rule r"
		}
		if d.Allowed != (c.reason == "") || d.Reason != want {
			t.Errorf("%s: got %v %q, want %q", c.name, d.Allowed, d.Reason, want)
		}
	}
}

// The label that the operator set beats what compose wrote; what an image brought is not in Labels at all.
func TestProjectLabel(t *testing.T) {
	f := &identity.Facts{Labels: map[string]string{identity.LabelComposeProject: "other", identity.LabelProject: "t"}}
	p := parse(t, "  - {name: r, allow: {level: project, account: \"{project}\"}}\n")
	if d := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Facts: f}); !d.Allowed || d.Account != "t" {
		t.Errorf("got %+v", d)
	}
}

func TestImageGlobs(t *testing.T) {
	const id = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		glob, image string
		want        bool
	}{
		{"nginx", "nginx", true},
		{"nginx", "nginx:1.25", true},
		{"nginx", "docker.io/library/nginx", true},
		{"nginx", "index.docker.io/nginx:latest", true},
		{"docker.io/library/nginx", "nginx", true},
		{"docker.io/library/nginx:latest", "nginx", true},
		{"docker.io/library/*", "nginx", true},
		{"nginx:1.25", "docker.io/library/nginx:1.25", true},
		{"nginx:1.25", "nginx", false},
		{"nginx:1.25", "nginx:1.26", false},
		{"nginx", "nginx@" + id, true},
		{"nginx@" + id, "nginx@" + id, true},
		{"nginx", "ghcr.io/x/nginx", false},
		{"nginx", "library/nginx2", false},
		{"docker.io/library/nginx", "evil.io/docker.io/library/nginx", false},
		{"ghcr.io/acme/*", "ghcr.io/acme/web:1", true},
		{"ghcr.io/acme/*", "ghcr.io/acme/web/deep", false},
		{"ghcr.io/acme/*", "ghcr.io/acme.evil/web", false},
		{"ghcr.io/acme/**", "ghcr.io/acme/a/b/c:1", true},
		{"ghcr.io/acme/**", "ghcr.io/acme", false},
		{"ghcr.io/*/**", "ghcr.io/acme/web", true},
		{"ghcr.io/*/**", "quay.io/acme/web", false},
		{"**", "a/b/c", true},
		{"*", "nginx", true},
		{id, "nginx", true}, // by the image's own id
		{"sha256:0*", "nginx", true},
		{"NGINX", "nginx", false},
		{"*", "Not:A:Reference", true},
	} {
		p := parse(t, "  - {name: r, match: {container: {image: \""+c.glob+"\"}}, allow: {level: shared}}\n")
		got := p.Decide(policy.Request{Tree: "t", Subject: inContainer(), Facts: &identity.Facts{Image: c.image, ImageID: id}}).Allowed
		if got != c.want {
			t.Errorf("glob %q, image %q: got %v, want %v", c.glob, c.image, got, c.want)
		}
	}
}

func TestVisible(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		want        bool
	}{
		{"allowed to containers", "  - {name: a, allow: {level: shared}}\n", true},
		{"allowed to some", "  - {name: a, match: {container: {labels: {x: y}}}, allow: {level: shared}}\n", true},
		{"allowed to the host", "  - {name: a, match: {host: {uid: [1]}}, allow: {level: shared}}\n", true},
		{"another tree", "  - {name: a, match: {tree: u}, allow: {level: shared}}\n", false},
		{"denied before", "  - {name: a, match: {tree: t}, deny: no}\n  - {name: b, allow: {level: shared}}\n", false},
		{"denied to any container before", "  - {name: a, match: {container: {}}, deny: no}\n  - {name: b, allow: {level: shared}}\n", false},
		{"denied to some before", "  - {name: a, match: {container: {name: x}}, deny: no}\n  - {name: b, allow: {level: shared}}\n", true},
		{"denied to containers, not to the host", "  - {name: a, deny: no}\n  - {name: b, match: {host: {uid: [1]}}, allow: {level: shared}}\n", true},
		{"denied to the host, not to containers", "  - {name: a, match: {host: {uid: [1]}}, deny: no}\n  - {name: b, allow: {level: shared}}\n", true},
	} {
		if got := parse(t, c.rules).Visible("t"); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "a\x00b", "a b", "a\n", "ä", "-x", strings.Repeat("a", 64)} {
		if parse(t, "  - {name: a, allow: {level: shared}}\n").Visible(name) {
			t.Errorf("tree name %q is visible", name)
		}
	}
}

func TestExpected(t *testing.T) {
	for _, c := range []struct {
		name, rules, account string
		level                policy.Level
	}{
		{"the tree's own", "  - {name: a, allow: {level: isolated, account: \"{tree}\"}}\n", "t", "isolated"},
		{"default", "  - {name: a, allow: {level: shared, account: \"{default}\"}}\n", "", "shared"},
		{"a host rule first", "  - {name: h, match: {host: {uid: [1]}}, allow: {level: shared, account: me}}\n  - {name: a, allow: {level: isolated, account: x}}\n", "x", "isolated"},
		{"host alone", "  - {name: h, match: {host: {uid: [1]}}, allow: {level: shared, account: me}}\n  - {name: a, deny: no}\n", "me", "shared"},
		{"denied first", "  - {name: a, match: {tree: t}, deny: no}\n  - {name: b, allow: {level: shared}}\n", "", ""},
	} {
		level, account, ok := parse(t, c.rules).Expected("t")
		if level != c.level || account != c.account || ok != (c.level != "") {
			t.Errorf("%s: got %q %q %v", c.name, level, account, ok)
		}
	}
}

// An API key does not come by the credential file.
func TestExpectedWithoutToken(t *testing.T) {
	for _, word := range []string{"none", "api-key"} {
		if _, _, ok := parse(t, "  - {name: a, allow: {level: shared, credential: "+word+"}}\n").Expected("t"); ok {
			t.Errorf("credential %s: a credential file is expected", word)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		name, rules, want string
	}{
		{"shared", "  - {name: a, allow: {level: shared}}\n", "overlay []"},
		{"project", "  - {name: a, allow: {level: project}}\n", "overlay []"},
		{"isolated: nothing of the host", "  - {name: a, allow: {level: isolated}}\n", "private []"},
		{"as said", "  - {name: a, allow: {level: isolated, settings: overlay}}\n", "overlay []"},
		{"readonly", "  - {name: a, allow: {level: shared, settings: readonly}}\n", "readonly []"},
		{"one spelling", "  - {name: a, allow: {level: shared, endpoints: [\"https://GW.example:443/x/\", \"http://127.0.0.1:1\"]}}\n", "overlay [https://gw.example/x http://127.0.0.1:1]"},
		{"the first rule that allows containers", "  - {name: a, match: {container: {name: x}}, allow: {level: isolated}}\n  - {name: b, allow: {level: shared, endpoints: [\"https://gw.example\"]}}\n", "private []"},
		{"a host rule is no such", "  - {name: h, match: {host: {uid: [1]}}, allow: {level: shared, endpoints: [\"https://gw.example\"]}}\n  - {name: a, allow: {level: isolated}}\n", "private []"},
		{"nobody may", "  - {name: a, deny: no}\n", "private []"},
	} {
		made, allowed := parse(t, c.rules).Settings("t")
		if got := fmt.Sprint(made, " ", allowed); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestHostMay(t *testing.T) {
	p := parse(t, web)
	for uid, want := range map[uint32]bool{0: false, 1000: true, 1001: true, 1002: false} {
		if got := p.HostMay("mine", uid); got != want {
			t.Errorf("uid %d: got %v, want %v", uid, got, want)
		}
	}
}
