package policy

import "github.com/claudefs/claudefs/internal/identity"

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

// HostMay reports whether some rule lets a host process of that uid read the tree.
func (p *Policy) HostMay(tree string, uid uint32) bool {
	return p.Decide(Request{Tree: tree, Subject: &identity.Subject{Host: true, Caller: identity.Caller{UID: uid}}}).Allowed
}

// Expected is the decision that a container with no special facts would get for the tree, judged by the tree's name
// alone; for a tree that only host processes may have, theirs. It serves attributes before the first reader is known,
// never content.
func (p *Policy) Expected(tree string) (level Level, account string, ok bool) {
	var found *Allow
	containers := true // whether a container may still come to the rule at hand
	for i := range p.Rules {
		r := &p.Rules[i]
		host := r.Match.Host != nil
		switch {
		case !r.Match.names(tree) || !host && !containers:
		case r.Allow != nil && !host:
			return r.Allow.Level, expectedAccount(r.Allow.Account, tree), true
		case r.Allow != nil && found == nil:
			found = r.Allow
		case !host && r.Match.anyContainer():
			containers = false
		}
	}
	if found == nil {
		return "", "", false
	}
	return found.Level, expectedAccount(found.Account, tree), true
}

func expectedAccount(account, tree string) string {
	switch account {
	case "{tree}", "{project}":
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
	return m.Host == nil && (m.Container == nil || m.Container.empty())
}
