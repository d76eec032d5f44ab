package settings

import "strings"

// Bytes is the file as the client itself would lay it out: two spaces for each level, a newline at the end.
func (d *Document) Bytes() []byte {
	var b strings.Builder
	d.root.render(&b, "\n")
	b.WriteByte('\n')
	return []byte(b.String())
}

// render writes v; indent is a newline and the blanks before the line that v ends on.
func (v *value) render(b *strings.Builder, indent string) {
	inner := indent + "  "
	switch {
	case v.kind == scalar:
		b.WriteString(v.raw)
	case v.kind == object && len(v.members) == 0:
		b.WriteString("{}")
	case v.kind == array && len(v.items) == 0:
		b.WriteString("[]")
	case v.kind == object:
		for i := range v.members {
			b.WriteString(open(i, '{') + inner + v.members[i].raw + ": ")
			v.members[i].value.render(b, inner)
		}
		b.WriteString(indent + "}")
	default:
		for i := range v.items {
			b.WriteString(open(i, '[') + inner)
			v.items[i].render(b, inner)
		}
		b.WriteString(indent + "]")
	}
}

// open is what stands before element i.
func open(i int, first byte) string {
	if i == 0 {
		return string(first)
	}
	return ","
}
