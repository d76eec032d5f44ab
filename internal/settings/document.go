package settings

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Document is a settings file: a JSON object. It does not change; functions return new ones, which may share parts. The
// zero value has no setting.
type Document struct{ root value }

// value is a JSON value. A scalar is kept as it was spelled.
type value struct {
	kind    kind
	raw     string   // of a scalar
	members []member // of an object, in the file's order
	items   []value  // of an array
}

type kind byte

const (
	object kind = iota
	array
	scalar
)

// member is a key, decoded and as it was spelled, and its value.
type member struct {
	key, raw string
	value    value
}

// text is a string's decoded content; ok is false for what is no string.
func (v *value) text() (s string, ok bool) {
	if v.kind != scalar || v.raw[0] != '"' {
		return "", false
	}
	return s, json.Unmarshal([]byte(v.raw), &s) == nil
}

// index says where each key of an object stands.
func (v *value) index() map[string]int {
	at := make(map[string]int, len(v.members))
	for i := range v.members {
		at[v.members[i].key] = i
	}
	return at
}

// quote spells a string as the client does: without the escapes for HTML.
func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always has a spelling
	return strings.TrimSuffix(b.String(), "\n")
}

// Empty reports whether there is no setting at all.
func (d *Document) Empty() bool { return len(d.root.members) == 0 }

// Equal reports whether both say the same to the client: whatever the order of keys and the spelling.
func (d *Document) Equal(o *Document) bool { return d.root.canonical() == o.root.canonical() }

// canonical is one spelling for all values that are the same to the client.
func (v *value) canonical() string {
	var b strings.Builder
	v.canon(&b)
	return b.String()
}

func (v *value) canon(b *strings.Builder) {
	switch v.kind {
	case scalar:
		b.WriteString(v.canonScalar())
	case array:
		b.WriteByte('[')
		for i := range v.items {
			v.items[i].canon(b)
			b.WriteByte(',')
		}
		b.WriteByte(']')
	case object:
		sorted := slices.Clone(v.members)
		slices.SortFunc(sorted, func(x, y member) int { return strings.Compare(x.key, y.key) })
		b.WriteByte('{')
		for i := range sorted {
			b.WriteString(quote(sorted[i].key) + ":")
			sorted[i].value.canon(b)
			b.WriteByte(',')
		}
		b.WriteByte('}')
	}
}

func (v *value) canonScalar() string {
	if s, ok := v.text(); ok {
		return quote(s)
	}
	// The client's numbers are IEEE doubles: it writes 1.50 back as 1.5.
	if f, err := strconv.ParseFloat(v.raw, 64); err == nil {
		return strconv.FormatFloat(f+0, 'g', -1, 64)
	}
	return v.raw
}
