package settings_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/internal/settings"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ name, base, own, want string }{
		{"other keys", `{"a":1}`, `{"b":2}`, `{"a":1,"b":2}`},
		{"own wins", `{"model":"opus","a":1}`, `{"model":"haiku"}`, `{"model":"haiku","a":1}`},
		{"objects", `{"env":{"A":"1","B":"2"}}`, `{"env":{"B":"3","C":"4"}}`, `{"env":{"A":"1","B":"3","C":"4"}}`},
		{
			"rules of both", `{"permissions":{"deny":["Bash(rm:*)"]}}`, `{"permissions":{"deny":["Read(.env)","Bash(rm:*)"]}}`,
			`{"permissions":{"deny":["Bash(rm:*)","Read(.env)"]}}`,
		},
		{"rules cannot be emptied", `{"permissions":{"deny":["x"]}}`, `{"permissions":{"deny":[]}}`, `{"permissions":{"deny":["x"]}}`},
		{
			"hooks of both", `{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"a"}]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"command":"a","type":"command"}]},{"hooks":[]}]}}`,
			`{"hooks":{"Stop":[{"hooks":[{"type":"command","command":"a"}]},{"hooks":[]}]}}`,
		},
		{"other kinds", `{"a":[1],"b":{"c":1}}`, `{"a":{"x":1},"b":2}`, `{"a":{"x":1},"b":2}`},
		{"null is a value", `{"a":1}`, `{"a":null}`, `{"a":null}`},
		{"whole lists", `{"fallbackModel":["a","b"]}`, `{"fallbackModel":["c"]}`, `{"fallbackModel":["c"]}`},
		{"whole at the top alone", `{"x":{"fallbackModel":["a"]}}`, `{"x":{"fallbackModel":["c"]}}`, `{"x":{"fallbackModel":["a","c"]}}`},
		{
			"whole entries", `{"extraKnownMarketplaces":{"m":{"source":{"source":"github","repo":"a/b"}},"n":{}}}`,
			`{"extraKnownMarketplaces":{"m":{"source":{"source":"directory"}}}}`,
			`{"extraKnownMarketplaces":{"m":{"source":{"source":"directory"}},"n":{}}}`,
		},
	} {
		got := settings.Merge(parse(t, c.base), parse(t, c.own))
		if !got.Equal(parse(t, c.want)) {
			t.Errorf("%s: got %s", c.name, got.Bytes())
		}
	}
}

func TestMergeKeepsOrderAndSpelling(t *testing.T) {
	got := settings.Merge(parse(t, `{"z":1.50,"a":{"q":1}}`), parse(t, `{"b\u0062":2e0,"a":{"p":"\u0041"}}`))
	want := "{\n  \"z\": 1.50,\n  \"a\": {\n    \"q\": 1,\n    \"p\": \"\\u0041\"\n  },\n  \"b\\u0062\": 2e0\n}\n"
	if diff := cmp.Diff(want, string(got.Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct{ name, written, base, want string }{
		{"unchanged", `{"a":1.5,"env":{"B":"2","A":"1"}}`, `{"env":{"A":"1","B":"2"},"a":1.50}`, `{}`},
		{"one more", `{"a":1,"model":"haiku"}`, `{"a":1}`, `{"model":"haiku"}`},
		{"changed", `{"model":"haiku","a":1}`, `{"a":1,"model":"opus"}`, `{"model":"haiku"}`},
		{"inside", `{"env":{"A":"1","B":"9","C":""}}`, `{"env":{"A":"1","B":"2"}}`, `{"env":{"B":"9","C":""}}`},
		{"one more rule", `{"permissions":{"allow":["a","b","b"]}}`, `{"permissions":{"allow":["a"]}}`, `{"permissions":{"allow":["b"]}}`},
		{"removed keys come back", `{}`, `{"a":1,"env":{"A":"1"}}`, `{}`},
		{"removed inside come back", `{"env":{}}`, `{"env":{"A":"1"}}`, `{}`},
		{"removed rules come back", `{"permissions":{"deny":["y"]}}`, `{"permissions":{"deny":["x","y"]}}`, `{}`},
		{"false instead of removed stays", `{"enabledPlugins":{"p@m":false}}`, `{"enabledPlugins":{"p@m":true}}`, `{"enabledPlugins":{"p@m":false}}`},
		{"an empty object of its own", `{"mine":{}}`, `{}`, `{"mine":{}}`},
		{"whole lists", `{"fallbackModel":["a","c"]}`, `{"fallbackModel":["a"]}`, `{"fallbackModel":["a","c"]}`},
		{"whole entries", `{"extraKnownMarketplaces":{"m":{"x":1,"y":2},"n":{"z":1}}}`, `{"extraKnownMarketplaces":{"n":{"z":1.0},"m":{"x":1}}}`, `{"extraKnownMarketplaces":{"m":{"x":1,"y":2}}}`},
		{"another kind", `{"a":{"b":1},"c":[1]}`, `{"a":1,"c":{}}`, `{"a":{"b":1},"c":[1]}`},
	} {
		got := settings.Split(parse(t, c.written), parse(t, c.base))
		if !got.Equal(parse(t, c.want)) {
			t.Errorf("%s: got %s", c.name, got.Bytes())
		}
	}
}

// Documents of a small world, so that two of them meet.
func drawValue(t *rapid.T, depth int) string {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.SampledFrom([]string{`1`, `1.0`, `2`}).Draw(t, "number")
	case 1:
		return rapid.SampledFrom([]string{`"a"`, `"\u0061"`, `"b"`, `"https://gw.example"`}).Draw(t, "text")
	case 2, 3:
		return rapid.SampledFrom([]string{`null`, `true`}).Draw(t, "word")
	case 4:
		var items []string
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			items = append(items, drawValue(t, depth-1))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	return drawObject(t, depth-1)
}

func drawObject(t *rapid.T, depth int) string {
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{
		"a", "b", "env", "fallbackModel", "extraKnownMarketplaces", "apiKeyHelper", "ANTHROPIC_BASE_URL", "HTTPS_PROXY", "ANTHROPIC_API_KEY",
	}), 0, 4, rapid.ID[string]).Draw(t, "keys")
	var members []string
	for _, k := range keys {
		members = append(members, fmt.Sprintf("%q:%s", k, drawValue(t, depth)))
	}
	return "{" + strings.Join(members, ",") + "}"
}

var documents = rapid.Custom(func(t *rapid.T) *settings.Document {
	d, err := settings.Parse([]byte(drawObject(t, 4)))
	if err != nil {
		t.Fatal(err)
	}
	return d
})

// What is stored makes, with the same base, the file that was written, but for what was removed from the base.
func TestSplitLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, own := documents.Draw(t, "base"), documents.Draw(t, "own")
		merged := settings.Merge(base, own)
		split := settings.Split(merged, base)
		if again := settings.Merge(base, split); !again.Equal(merged) {
			t.Fatalf("base %s own %s\nmerged %s\nstored %s\nmakes %s", base.Bytes(), own.Bytes(), merged.Bytes(), split.Bytes(), again.Bytes())
		}
	})
}

// Own settings that say nothing of the base again survive being shown and written back as they are.
func TestSplitUndoesMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := documents.Draw(t, "base")
		own := settings.Split(documents.Draw(t, "written"), base)
		if got := settings.Split(settings.Merge(base, own), base); !got.Equal(own) {
			t.Fatalf("base %s own %s: got %s", base.Bytes(), own.Bytes(), got.Bytes())
		}
	})
}

func TestMergeWithNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, empty := documents.Draw(t, "d"), new(settings.Document)
		for name, got := range map[string]*settings.Document{
			"base alone": settings.Merge(d, empty), "own alone": settings.Merge(empty, d), "split from nothing": settings.Split(d, empty),
		} {
			if string(got.Bytes()) != string(d.Bytes()) {
				t.Fatalf("%s: got %s, want %s", name, got.Bytes(), d.Bytes())
			}
		}
		if got := settings.Split(d, d); !got.Equal(empty) {
			t.Fatalf("split from itself: got %s", got.Bytes())
		}
	})
}

// Work grows with the size, not with its square: a container chooses the file.
func TestLargeFiles(t *testing.T) {
	var keys, items strings.Builder
	for i := range 30000 {
		fmt.Fprintf(&keys, `"k%d":%d,`, i, i)
		fmt.Fprintf(&items, `%d,`, i)
	}
	text := `{` + keys.String() + `"list":[` + items.String() + `0]}`
	if len(text) > settings.MaxSize {
		t.Fatal("too large to be a test")
	}
	start := time.Now()
	base, own := parse(t, text), parse(t, strings.ReplaceAll(text, `"k`, `"l`))
	merged := settings.Merge(base, own)
	if got := settings.Split(merged, base); !got.Equal(settings.Split(own, base)) {
		t.Error("split differs")
	}
	settings.Filter(merged, nil)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}
