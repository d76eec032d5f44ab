package settings

import (
	"slices"

	"github.com/claudefs/claudefs/internal/endpoint"
)

// Files are the names in a tree that the firewall has to look at, each a JSON object, whatever the policy says.
var Files = []string{
	"settings.json",
	"settings.local.json",  // the client's local settings when its working directory is the one above the tree
	"cowork_settings.json", // user settings instead of settings.json, by a variable of the client's environment
	".claude.json",         // its env counts as that of settings.json
	".config.json",         // the older name of .claude.json, which is still read first
	"remote-settings.json", // the client's copy of what the server says an organization's settings are
}

// Removed is a key that the firewall took out. It holds no value.
type Removed struct {
	Path   string `json:"path"` // "apiKeyHelper", "env.HTTPS_PROXY"
	Reason Reason `json:"reason"`
}

// Filter takes out of what a tree wrote each key by which the client would send the account's token elsewhere, or use
// another one: see the reasons. A URL stays when it is one of the allowed. It is for what is
// shown, and asked each time: what is stored stays, and an allowed URL may be one no more.
func Filter(own *Document, allowed []endpoint.Endpoint) (*Document, []Removed) {
	return take(own, func(r Reason, v *value) bool { return r != ReasonEndpoint || !isAllowed(v, allowed) })
}

// FilterBase takes out of the host's base what is a credential or a place on the host: a key of the host's must not
// come to all containers. Its URLs, proxies and certificates are the operator's word and stay.
func FilterBase(base *Document) (*Document, []Removed) {
	return take(base, func(r Reason, _ *value) bool { return r == ReasonCredential || r == ReasonPlace })
}

func isAllowed(v *value, allowed []endpoint.Endpoint) bool {
	text, ok := v.text()
	if !ok {
		return false
	}
	e, err := endpoint.Parse(text)
	return err == nil && slices.Contains(allowed, e)
}

// take leaves out the firewall's keys that out says yes to.
func take(d *Document, out func(Reason, *value) bool) (*Document, []Removed) {
	var removed []Removed
	root := value{}
	for _, m := range d.root.members {
		reason := topKeys[m.key]
		switch {
		case reason != "" && out(reason, &m.value):
			removed = append(removed, Removed{m.key, reason})
			continue
		case m.key == "env" && m.value.kind == object:
			var more []Removed
			m.value, more = takeEnv(&m.value, out)
			removed = append(removed, more...)
		}
		root.members = append(root.members, m)
	}
	return &Document{root: root}, removed
}

func takeEnv(env *value, out func(Reason, *value) bool) (value, []Removed) {
	var removed []Removed
	kept := value{}
	for _, m := range env.members {
		if reason := envReason(m.key); reason != "" && out(reason, &m.value) {
			removed = append(removed, Removed{"env." + m.key, reason})
			continue
		}
		kept.members = append(kept.members, m)
	}
	return kept, removed
}
