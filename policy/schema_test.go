package policy_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/claudefs/claudefs/policy"
)

// published is where editors find the schema; "claudefs policy schema" prints the same.
const published = "../docs/policy.schema.json"

// generate makes the schema from the types and their comments.
func generate(t testing.TB) []byte {
	t.Helper()
	r := &jsonschema.Reflector{
		FieldNameTag: "yaml", RequiredFromJSONSchemaTags: true, ExpandedStruct: true,
		BaseSchemaID: "https://raw.githubusercontent.com/claudefs/claudefs/main/docs", Mapper: special,
	}
	if err := r.AddGoComments("github.com/claudefs/claudefs/policy", "."); err != nil {
		t.Fatal(err)
	}
	for k, v := range r.CommentMap {
		r.CommentMap[k] = strings.ReplaceAll(v, "\n", " ")
	}
	s := r.Reflect(&policy.Policy{})
	s.ID, s.Title = jsonschema.ID(string(r.BaseSchemaID)+"/policy.schema.json"), "claudefs policy"
	s.Required = []string{"version", "rules"}
	version, _ := s.Properties.Get("version")
	version.Const = 1
	rule := s.Definitions["Rule"]
	rule.Required = []string{"name"}
	rule.OneOf = []*jsonschema.Schema{{Required: []string{"allow"}}, {Required: []string{"deny"}}}
	s.Definitions["Allow"].Required = []string{"level"}
	s.Definitions["HostMatch"].Required = []string{"uid"}
	s.Definitions["Test"].Required = []string{"name", "tree", "want"}
	one := uint64(1)
	for _, at := range []struct{ in, key string }{{"Match", "uid"}, {"HostMatch", "uid"}, {"Allow", "scopes"}, {"Allow", "endpoints"}, {"", "rules"}} {
		if at.in == "" {
			rules, _ := s.Properties.Get(at.key)
			rules.MinItems = &one
			continue
		}
		list, _ := s.Definitions[at.in].Properties.Get(at.key)
		list.MinItems = &one
	}
	s.Definitions["Match"].Not = &jsonschema.Schema{Required: []string{"container", "host"}}
	account, _ := s.Definitions["Allow"].Properties.Get("account")
	account.Pattern = policy.AccountForm
	privileged, _ := s.Definitions["Allow"].Properties.Get("privileged")
	approval, _ := s.Definitions["Allow"].Properties.Get("approval")
	approval.Enum = []any{"none", "first-read"}
	privileged.Enum = []any{"allow", "deny"}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

// special are the schemas of types that read more than one form, or only some words.
func special(t reflect.Type) *jsonschema.Schema {
	text := &jsonschema.Schema{Type: "string"}
	words := func(w ...any) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Enum: w} }
	one := uint64(1)
	list := func(of *jsonschema.Schema) *jsonschema.Schema {
		return &jsonschema.Schema{OneOf: []*jsonschema.Schema{of, {Type: "array", Items: of, MinItems: &one}}}
	}
	switch t {
	case reflect.TypeFor[policy.Globs]():
		return list(&jsonschema.Schema{
			OneOf:       []*jsonschema.Schema{text, {Type: "integer"}, {Type: "boolean"}},
			Description: "a glob: * stops at /, a trailing /** matches any deeper path, ** alone anything",
		})
	case reflect.TypeFor[policy.Hours]():
		text.Description, text.Examples = "a time in the week", []any{"mon-fri 08:00-18:00", "22:00-06:00 UTC"}
		text.Pattern = policy.SpanForm
		return list(text)
	case reflect.TypeFor[policy.Duration]():
		text.Description, text.Examples = "a length of time", []any{"90m", "8h"}
		return text
	case reflect.TypeFor[policy.Level]():
		return words("shared", "project", "isolated")
	case reflect.TypeFor[policy.State]():
		return words("persistent", "ephemeral")
	case reflect.TypeFor[policy.Credential]():
		return words("oauth", "api-key", "none")
	case reflect.TypeFor[policy.Settings]():
		return words("overlay", "private", "readonly")
	case reflect.TypeFor[policy.Login]():
		return words("capture", "deny")
	case reflect.TypeFor[policy.RefreshToken]():
		return words("surrogate", "null")
	}
	return nil
}

func TestSchemaIsCurrent(t *testing.T) {
	want := generate(t)
	for _, file := range []string{published, "policy.schema.json"} {
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say (%v); go test ./policy -run TestSchemaIsCurrent -update writes it", file, err)
		}
	}
	if !bytes.Equal(policy.Schema, want) {
		t.Error("the embedded schema is another one")
	}
}

func compile(t testing.TB) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(policy.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("policy.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("policy.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t testing.TB, s *validator.Schema, text []byte) error {
	t.Helper()
	b, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	doc, err := validator.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

var fenced = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")

// examples are all policies that users are shown.
func examples(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range policy.BuiltinNames {
		out[name], _ = policy.Builtin(name)
	}
	for _, file := range corpus(t, "ok") {
		if file == "testdata/ok/words-as-text.yaml" {
			continue // numbers where text belongs: the parser takes them, an editor had better not
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out[file] = b
	}
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fenced.FindAllSubmatch(b, -1) {
			if bytes.HasPrefix(bytes.TrimSpace(m[1]), []byte("version:")) || bytes.Contains(m[1], []byte("\nrules:")) {
				out[page+": "+string(m[1])] = m[1]
			}
		}
	}
	return out
}

// What users are shown is a policy, by the parser and by the schema.
func TestExamples(t *testing.T) {
	s := compile(t)
	all := examples(t)
	if len(all) < 10 {
		t.Errorf("only %d examples found", len(all))
	}
	for name, text := range all {
		p, err := policy.Parse("example", text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range p.Tests {
			if r := p.Tests[i].Run(p); !r.Ok {
				t.Errorf("%s: test %q: %s", name, r.Name, r.Problem)
			}
		}
		if err := validate(t, s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the schema catches while a person types: keys, words and forms. Of the bad corpus that is most; the rest needs
// the parser.
func TestSchemaRefuses(t *testing.T) {
	s := compile(t)
	for _, name := range []string{
		"hours-word", "ttl-number", "credential-word", "exe-without-uid", "privileged-word", "allow-and-deny", "uid-empty",
		"account-path", "scopes-empty", "settings-word", "endpoints-empty", "endpoints-text", "host-without-uid", "level-missing", "level-unknown", "name-missing", "no-effect", "unknown-key",
		"unknown-key-in-allow", "tree-map", "rules-empty", "rules-missing", "wrong-version", "host-and-container",
	} {
		b, err := os.ReadFile("testdata/bad/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if validate(t, s, b) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
