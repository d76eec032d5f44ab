package policy

import (
	"cmp"
	"slices"

	"github.com/claudefs/claudefs/internal/endpoint"
)

// Visible reports whether any rule could allow the tree to somebody; other names do not exist.
func (p *Policy) Visible(tree string) bool {
	if !ValidTree(tree) {
		return false
	}
	containers := true // whether a container may still come to the rule at hand
	for i := range p.Rules {
		r := &p.Rules[i]
		host := r.Match.Host != nil
		if !r.Match.names(tree) || !host && !containers {
			continue
		}
		if r.Allow != nil {
			return true
		}
		containers = containers && (host || !r.Match.anyContainer())
	}
	return false
}

// Ephemeral reports whether the tree's state files end with its containers. They belong to all who use the tree, so it is
// a matter of the tree's name, as what Expected says is.
func (p *Policy) Ephemeral(tree string) bool {
	a := p.expected(tree)
	return a != nil && a.State == StateEphemeral
}

// Settings says what the tree's settings.json is made of, and which base URLs it may hold. All who use the tree share
// the file, so it is a matter of the tree's name, as what Expected says is.
func (p *Policy) Settings(tree string) (Settings, []endpoint.Endpoint) {
	a := p.expected(tree)
	if a == nil {
		return SettingsPrivate, nil
	}
	var allowed []endpoint.Endpoint
	for _, text := range a.Endpoints {
		if e, err := endpoint.Parse(text); err == nil {
			allowed = append(allowed, e)
		}
	}
	switch {
	case a.Settings != "":
		return a.Settings, allowed
	case a.Level == LevelIsolated:
		// Isolated is for what is not trusted: the base tells of the host's programs, paths and servers.
		return SettingsPrivate, allowed
	}
	return SettingsOverlay, allowed
}

// HostMay reports whether some rule lets a host process of that uid read the tree, whatever program it runs and
// whatever time it is: what it guards is no secret.
func (p *Policy) HostMay(tree string, uid uint32) bool {
	for i := range p.Rules {
		m := &p.Rules[i].Match
		if m.Host == nil || !m.names(tree) || len(m.UID) > 0 && !slices.Contains(m.UID, uid) ||
			len(m.Host.UID) > 0 && !slices.Contains(m.Host.UID, uid) {
			continue
		}
		if p.Rules[i].Allow != nil || len(m.Host.Exe) == 0 {
			return p.Rules[i].Allow != nil
		}
	}
	return false
}

// Expected is the decision that a container with no special facts would get for the tree, judged by the tree's name
// alone; for a tree that only host processes may have, theirs. It serves attributes before the first reader is known,
// never content. ok is false when nobody would be shown a credential.
func (p *Policy) Expected(tree string) (level Level, account string, ok bool) {
	a := p.expected(tree)
	if a == nil {
		return "", "", false
	}
	return a.Level, expectedAccount(a.Account, tree), cmp.Or(a.Credential, CredentialOAuth) == CredentialOAuth
}

// APIKey is Expected for trees whose rule gives an API key; ok is false for all others.
func (p *Policy) APIKey(tree string) (level Level, account string, ok bool) {
	a := p.expected(tree)
	if a == nil || a.Credential != CredentialAPIKey {
		return "", "", false
	}
	return a.Level, expectedAccount(a.Account, tree), true
}

// expected is the first allow that a container may come to, else the first for host processes, else nil.
func (p *Policy) expected(tree string) *Allow {
	var found *Allow
	containers := true // whether a container may still come to the rule at hand
	for _, r := range p.about(tree) {
		host := r.Match.Host != nil
		switch {
		case !host && !containers:
		case r.Allow != nil && !host:
			return r.Allow
		case r.Allow != nil && found == nil:
			found = r.Allow
		case !host && r.Match.anyContainer():
			containers = false
		}
	}
	return found
}

func expectedAccount(account, tree string) string {
	switch account {
	case "{tree}", "{project}", "{container}":
		return tree
	case "{default}":
		return ""
	}
	return account
}

// names reports whether the rule is about the tree.
func (m *Match) names(tree string) bool { return len(m.Tree) == 0 || m.Tree.matches(tree) }

// anyContainer reports whether every container matches, once the tree does.
func (m *Match) anyContainer() bool {
	return m.Host == nil && len(m.UID) == 0 && m.Container.empty()
}
