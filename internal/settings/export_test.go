package settings

// Missing lists the firewall's places where one document has a member and the other has none.
func Missing(with, without *Document) (out []string) {
	missing := func(a, b *value, prefix string) {
		at := b.index()
		for _, m := range a.members {
			if _, ok := at[m.key]; !ok {
				out = append(out, prefix+m.key)
			}
		}
	}
	missing(&with.root, &without.root, "")
	a, ok := with.root.index()["env"]
	b, both := without.root.index()["env"]
	if ok && both {
		missing(&with.root.members[a].value, &without.root.members[b].value, "env.")
	}
	return out
}
