package strictyaml_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/strictyaml"
)

type doc struct {
	Name string            `yaml:"name"`
	N    int               `yaml:"n"`
	Ok   bool              `yaml:"ok"`
	M    map[string]string `yaml:"m"`
}

func TestDecode(t *testing.T) {
	var got doc
	text := "---\nname: \"null\"\nn: -7\nok: true\nm: {a: b, 1: \"2\"}\n"
	if err := strictyaml.Decode("f", []byte(text), &got, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(doc{"null", -7, true, map[string]string{"a": "b", "1": "2"}}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown", "nam: x", `f:1:1: unknown field "nam"`},
		{"case twin", "name: x\nName: y\n", `f:2:1: unknown field "Name"`},
		{"doubled", "name: x\nname: y\n", `f:2:1: mapping key "name" already defined`},
		{"doubled in a map", "m: {a: b, \"a\": c}\n", `mapping key "a" already defined`},
		{"doubled number and text", "m: {1: b, \"1\": c}\n", `mapping key "1" already defined`},
		{"null", "name: null\n", "f:1:7: no value"},
		{"null key", "m: {null: x}\n", "no value"},
		{"tilde", "name: ~\n", "f:1:7: no value"},
		{"fraction", "n: 1.5\n", "f:1:4: numbers with a fraction"},
		{"octal", "n: 010\n", "f:1:4: write the number"},
		{"hex", "n: 0x10\n", "f:1:4: write the number"},
		{"underscore", "n: 1_0\n", "f:1:4: write the number"},
		{"bool", "ok: True\n", "f:1:5: write true or false"},
		{"text for a number", "n: abc\n", "f:1:4:"},
		{"overflow", "n: 99999999999999999999\n", "f:1:4:"},
		{"anchor", "name: &a x\n", "f:1:7: anchors"},
		{"alias", "name: *a\n", "f:1:7: anchors"},
		{"tag", "name: !!str x\n", "f:1:7: anchors"},
		{"merge", "<<: {name: x}\n", "f:1:1: anchors"},
		{"documents", "name: x\n---\nname: y\n", "f:2: want one YAML document"},
		{"empty", "", "f: the file is empty"},
		{"bidi", "name: x # \u202eevil\n", "f:1:11: not text (U+202E)"},
		{"bom", "\ufeffname: x\n", "f:1:1: not text (U+FEFF)"},
		{"broken utf-8", "name: \xff\n", "f:1:7: not text"},
		{"control", "name: a\x08b\n", "f:1:8: not text (U+0008)"},
	} {
		var d doc
		err := strictyaml.Decode("f", []byte(c.text), &d, true)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) && !strings.Contains(err.Error(), ": "+c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestEmptyMayBeAccepted(t *testing.T) {
	d := doc{Name: "default"}
	for _, text := range []string{"", "\n", "# x\n", "---\n", "---\n# x\n...\n", "~\n"} {
		if err := strictyaml.Decode("f", []byte(text), &d, false); err != nil || d.Name != "default" {
			t.Errorf("%q: %v, %+v", text, err, d)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("name: x\nn: 1\nm: {a: b}\n"))
	f.Add([]byte("- - - [a, {b: c}]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var one, two doc
		err := strictyaml.Decode("f", b, &one, true)
		if err != nil {
			return
		}
		if err := strictyaml.Decode("f", b, &two, true); err != nil || !cmp.Equal(one, two) {
			t.Fatalf("read twice: %+v, %+v, %v", one, two, err)
		}
	})
}
