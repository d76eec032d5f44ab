package settings_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/settings"
)

// secret must be in no error message and in no list of what was removed.
const secret = "sk-ant-api03-SECRETSECRETSECRET"

func parse(t testing.TB, text string) *settings.Document {
	t.Helper()
	d, err := settings.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func TestParseKeepsSpelling(t *testing.T) {
	const text = `{
  "zeta": 1.50,
  "alpha": {
    "n": 12345678901234567890,
    "e": 1E+2,
    "s": "\u0041\/\ud800<&>",
    "k\u0065y": [],
    "o": {},
    "q\"": "\\\"}],{"
  },
  "list": [
    true,
    null,
    [
      -0.0
    ]
  ]
}
`
	if got := string(parse(t, text).Bytes()); got != text {
		t.Errorf("got %s, want %s", got, text)
	}
}

func TestParseAsTheClient(t *testing.T) {
	for _, in := range []string{"", " \n", "{}", "\xef\xbb\xbf{}", "{\t}\r\n"} {
		if d := parse(t, in); !d.Empty() || string(d.Bytes()) != "{}\n" {
			t.Errorf("%q: got %s, want no setting", in, d.Bytes())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"cut off", `{"a":"` + secret, "line 1, column 38: it ends too early"},
		{"word", "{\n  \"a\": " + secret + "}", "line 2, column 8: not JSON"},
		{"comment", "{\n  // x\n}", "line 2, column 3: not JSON; comments"},
		{"trailing comma", `{"a":1,}`, "line 1, column 8: not JSON"},
		{"list", `["` + secret + `"]`, "line 1, column 1: want a JSON object"},
		{"text", `"` + secret + `"`, "want a JSON object"},
		{"after the end", `{} ` + secret, "line 1, column 4: not JSON"},
		{"doubled", "{\n\"env\":{},\n\"env\":{\"a\":\"" + secret + "\"}}", "line 3, column 1: key given twice"},
		{"doubled, escaped", `{"a":{"env":1,"\u0065nv":2}}`, "line 1, column 15: key given twice"},
		{"doubled in a list", `{"a":[{"b":1,"b":2}]}`, "line 1, column 14: key given twice"},
		{"latin-1", "{\"a\":\"\n\xe9\"}", "line 2, column 1: not UTF-8"},
		{"nul", "{}\x00", "line 1, column 3: not JSON"},
		{"deep", `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "column 69: nested more than 64"},
		{"deep objects", strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), "nested more than 64"},
		{"very deep", strings.Repeat(`[`, 20000), "not JSON"},
		{"large", `{"a":"` + strings.Repeat("x", settings.MaxSize) + `"}`, "4194312 bytes, at most 4194304"},
	} {
		_, err := settings.Parse([]byte(c.in))
		if !errors.Is(err, settings.ErrSyntax) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: got %v: it quotes the content", c.name, err)
		}
	}
	deepest := `{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`
	parse(t, deepest)
}

func TestEqual(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1.50,"b":[1e3]}`, `{"b":[1000],"a":1.5}`, true},
		{`{"a":12345678901234567890}`, `{"a":12345678901234567000}`, true},
		{`{"a":-0.0}`, `{"a":0}`, true},
		{`{"a":"\u0041"}`, `{"\u0061":"A"}`, true},
		{`{"a":"1"}`, `{"a":1}`, false},
		{`{"a":"null"}`, `{"a":null}`, false},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, false},
		{`{"a":{}}`, `{"a":[]}`, false},
		{`{"a":["b,c"]}`, `{"a":["b","c"]}`, false},
		{`{"a":null}`, `{}`, false},
	} {
		if got := parse(t, c.a).Equal(parse(t, c.b)); got != c.want {
			t.Errorf("%s and %s: got %v", c.a, c.b, got)
		}
	}
}
