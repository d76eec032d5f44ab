package settings

import (
	"regexp"
	"strconv"

	"github.com/claudefs/claudefs/vault"
)

// KeyFile is the name in a tree of the file that holds the key of an API-key account: the key and a newline, for
// attested readers, as the credential file. It exists nowhere.
const KeyFile = ".api-key"

// helper has the client read the key where it reads its settings, whichever way it was told where that is.
const helper = `cat "${CLAUDE_CONFIG_DIR:-$HOME/.claude}/` + KeyFile + `"`

// Deliver adds to a filtered document how the client comes to an API key: apiKeyHelper.
//
// The other way, the key as env.ANTHROPIC_API_KEY, is worse in each respect. The client then asks a person whether to
// use the key, with "no" as the recommended answer, and writes the key's last 20 characters into .claude.json; it hands
// the key to every program that it starts; it follows no rotation, while a helper is run again every 5 minutes and after
// a 401. And settings.json would be a secret: a reader that may not have the key would have no settings either, no
// permission rules and no hooks.
func Deliver(d *Document) *Document {
	out, _ := take(d, func(_ Reason, _ *value) bool { return false })
	raw := quote(helper)
	if i, ok := out.root.index()["apiKeyHelper"]; ok {
		out.root.members[i].value = value{kind: scalar, raw: raw}
		return out
	}
	out.root.members = append(out.root.members, member{key: "apiKeyHelper", raw: `"apiKeyHelper"`, value: value{kind: scalar, raw: raw}})
	return out
}

// ReasonKey is why Withdraw takes something out.
const ReasonKey Reason = "the account's key; it is not stored"

// Withdraw is for a file that comes back: it takes out what Deliver added, and every member and item with a text that
// contains the key, wherever a program in the container has put it. An empty key is in no text.
func Withdraw(written *Document, key vault.Secret) (*Document, []Removed) {
	w := withdrawal{key: key}
	root := value{}
	for _, m := range written.root.members {
		if text, ok := m.value.text(); m.key == "apiKeyHelper" && ok && text == helper {
			continue
		}
		root.members = append(root.members, m)
	}
	root = w.object(&root, "")
	return &Document{root: root}, w.removed
}

type withdrawal struct {
	key     vault.Secret
	removed []Removed
}

// holds reports whether a text contains the key. Secret.In does not take constant time; whoever writes into a tree with
// an API-key account may read the key anyway.
func (w *withdrawal) holds(text string) bool { return w.key.In([]byte(text)) }

func (w *withdrawal) takes(v *value, path string) bool {
	text, ok := v.text()
	if !ok || !w.holds(text) {
		return false
	}
	w.removed = append(w.removed, Removed{path, ReasonKey})
	return true
}

func (w *withdrawal) object(v *value, path string) value {
	out := value{}
	for _, m := range v.members {
		at := path + shown(m.key)
		if w.holds(m.key) {
			w.removed = append(w.removed, Removed{path + "…", ReasonKey})
			continue
		}
		if w.takes(&m.value, at) {
			continue
		}
		m.value = w.inside(&m.value, at)
		out.members = append(out.members, m)
	}
	return out
}

// plainKey is what a key looks like that a log may show. Others are texts of whoever wrote the file.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_.$-]{1,64}$`)

func shown(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return "…"
}

func (w *withdrawal) inside(v *value, path string) value {
	switch v.kind {
	case object:
		return w.object(v, path+".")
	case array:
		out := value{kind: array}
		for i := range v.items {
			at := path + "[" + strconv.Itoa(i) + "]"
			if !w.takes(&v.items[i], at) {
				out.items = append(out.items, w.inside(&v.items[i], at))
			}
		}
		return out
	}
	return *v
}
