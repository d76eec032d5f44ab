package settings

import "slices"

// whole are the keys whose value the client takes from one file, whole; that of the tree's own file wins. It does the
// same when it joins user and project settings.
var whole = []string{"fallbackModel", "modelPicker"}

// wholeEntries are the keys whose members it takes whole.
var wholeEntries = []string{"extraKnownMarketplaces", "managedMcpServers"}

// Merge joins the host's base and the tree's own settings as the client joins its settings files: objects key by key,
// lists as the base's items and then the tree's that are not among them, and of anything else the tree's own. So the
// base's permission rules stay in force beside the tree's.
func Merge(base, own *Document) *Document {
	return &Document{root: mergeObjects(&base.root, &own.root, true)}
}

func mergeObjects(base, own *value, top bool) value {
	out := value{members: slices.Clone(base.members)}
	at := base.index()
	for _, m := range own.members {
		i, ok := at[m.key]
		if !ok {
			out.members = append(out.members, m)
			continue
		}
		out.members[i].value = mergeMember(m.key, &base.members[i].value, &m.value, top)
	}
	return out
}

func mergeMember(key string, base, own *value, top bool) value {
	switch {
	case top && slices.Contains(whole, key):
		return *own
	case top && slices.Contains(wholeEntries, key) && base.kind == object && own.kind == object:
		return mergeEntries(base, own)
	case base.kind == object && own.kind == object:
		return mergeObjects(base, own, false)
	case base.kind == array && own.kind == array:
		return value{kind: array, items: append(slices.Clone(base.items), additions(base, own)...)}
	}
	return *own
}

func mergeEntries(base, own *value) value {
	out := value{members: slices.Clone(base.members)}
	at := base.index()
	for _, m := range own.members {
		if i, ok := at[m.key]; ok {
			out.members[i].value = m.value
			continue
		}
		out.members = append(out.members, m)
	}
	return out
}

// additions are the items of list that are not in base, each once.
func additions(base, list *value) (out []value) {
	seen := map[string]bool{}
	for i := range base.items {
		seen[base.items[i].canonical()] = true
	}
	for i := range list.items {
		if c := list.items[i].canonical(); !seen[c] {
			seen[c] = true
			out = append(out, list.items[i])
		}
	}
	return out
}

// Split finds the tree's own part of a file that the client wrote: what differs from the base that the file was made
// with. Compared is what the client reads, not the spelling: it writes keys in an order of its own, and numbers in its
// own form.
//
// What the tree took out of the base comes back at the next look: the base can be overruled, not removed. A tree's own
// file needs no marks for what is gone so, and a permission rule of the host stays when a container deletes it.
func Split(written, base *Document) *Document {
	return &Document{root: splitObjects(&written.root, &base.root, true)}
}

func splitObjects(written, base *value, top bool) value {
	out := value{}
	at := base.index()
	for _, m := range written.members {
		if i, ok := at[m.key]; ok {
			own, differs := splitMember(m.key, &m.value, &base.members[i].value, top)
			if !differs {
				continue
			}
			m.value = own
		}
		out.members = append(out.members, m)
	}
	return out
}

// splitMember is a member's own part; differs is false when it has none.
func splitMember(key string, written, base *value, top bool) (own value, differs bool) {
	switch {
	case top && slices.Contains(whole, key):
	case top && slices.Contains(wholeEntries, key) && written.kind == object && base.kind == object:
		own = splitEntries(written, base)
		return own, len(own.members) > 0
	case written.kind == object && base.kind == object:
		own = splitObjects(written, base, false)
		return own, len(own.members) > 0
	case written.kind == array && base.kind == array:
		own = value{kind: array, items: additions(base, written)}
		return own, len(own.items) > 0
	}
	return *written, written.canonical() != base.canonical()
}

func splitEntries(written, base *value) value {
	out := value{}
	at := base.index()
	for _, m := range written.members {
		if i, ok := at[m.key]; !ok || base.members[i].value.canonical() != m.value.canonical() {
			out.members = append(out.members, m)
		}
	}
	return out
}
