package settings_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/internal/endpoint"
	"github.com/claudefs/claudefs/internal/settings"
)

func endpoints(t testing.TB, texts ...string) (out []endpoint.Endpoint) {
	t.Helper()
	for _, text := range texts {
		e, err := endpoint.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// Each of these was seen to divert a client, or is what the client itself keeps a project's settings from.
func TestFilterTakes(t *testing.T) {
	for reason, names := range map[settings.Reason][]string{
		settings.ReasonCredential: {
			"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_SIMPLE",
			"CLAUDE_CODE_OAUTH_REFRESH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN_FILE_DESCRIPTOR", "CLAUDE_CODE_API_KEY_FILE_DESCRIPTOR",
			"CLAUDE_CODE_HOST_CREDS_FILE", "ANTHROPIC_IDENTITY_TOKEN_FILE", "ANTHROPIC_FOUNDRY_API_KEY", "CLAUDE_BRIDGE_OAUTH_TOKEN", "anthropic_api_key",
		},
		settings.ReasonPlace:    {"CLAUDE_CONFIG_DIR", "CLAUDE_SECURESTORAGE_CONFIG_DIR", "CLAUDE_CODE_USE_COWORK_PLUGINS", "HOME", "__proto__"},
		settings.ReasonProvider: {"CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE", "CLAUDE_CODE_SKIP_BEDROCK_AUTH"},
		settings.ReasonRoute: {
			"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "all_proxy", "NO_PROXY", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED", "ANTHROPIC_UNIX_SOCKET",
			"SSL_CERT_FILE", "CLAUDE_CODE_CLIENT_CERT",
		},
		settings.ReasonEndpoint: {
			"ANTHROPIC_BASE_URL", "ANTHROPIC_BEDROCK_BASE_URL", "CLAUDE_CODE_API_BASE_URL", "CLAUDE_CODE_CUSTOM_OAUTH_URL", "CLAUDE_CODE_GB_BASE_URL",
			"CLAUDE_BRIDGE_BASE_URL", "CLAUDE_BRIDGE_SESSION_INGRESS_URL", "VOICE_STREAM_BASE_URL", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "CLAUDE_LOCAL_OAUTH_API_BASE",
		},
	} {
		for _, name := range names {
			got, removed := settings.Filter(parse(t, fmt.Sprintf(`{"env":{"A":"1",%q:%q}}`, name, secret)), nil)
			if want := `{"env":{"A":"1"}}`; !got.Equal(parse(t, want)) {
				t.Errorf("%s: got %s, want %s", name, got.Bytes(), want)
			}
			if diff := cmp.Diff([]settings.Removed{{Path: "env." + name, Reason: reason}}, removed); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
	for _, key := range []string{"apiKeyHelper", "primaryApiKey", "proxyAuthHelper", "awsAuthRefresh", "awsCredentialExport", "gcpAuthRefresh", "forceLoginGatewayUrl", "__proto__"} {
		got, removed := settings.Filter(parse(t, fmt.Sprintf(`{"model":"opus",%q:%q}`, key, secret)), nil)
		if !got.Equal(parse(t, `{"model":"opus"}`)) || len(removed) != 1 || removed[0].Path != key {
			t.Errorf("%s: got %s, %v", key, got.Bytes(), removed)
		}
	}
}

// The client reads escaped keys as what they stand for.
func TestFilterReadsEscapes(t *testing.T) {
	got, removed := settings.Filter(parse(t, `{"\u0065nv":{"ANTHROPIC\u005fBASE_URL":"http://x.example"},"api\u004beyHelper":"x"}`), nil)
	if !got.Equal(parse(t, `{"env":{}}`)) || len(removed) != 2 {
		t.Errorf("got %s, %v", got.Bytes(), removed)
	}
}

// What runs programs stays, and what only looks like one of the firewall's keys.
func TestFilterLeaves(t *testing.T) {
	const text = `{
  "model": "opus",
  "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "x"}]}]},
  "statusLine": {"type": "command", "command": "x"},
  "permissions": {"env": {"ANTHROPIC_API_KEY": "x"}, "apiKeyHelper": "x"},
  "ENV": {"ANTHROPIC_API_KEY": "x"},
  "env": {
    "FOO": "1", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "1", "MAX_THINKING_TOKENS": "1", "ANTHROPIC_MODEL": "x", "MY_HTTPS_PROXY": "x",
    "GITHUB_TOKEN": "x", "AWS_REGION": "x", "CLAUDE_CODE_USE_POWERSHELL_TOOL": "1", "DATABASE_URL": "x", "NODE_OPTIONS": "x",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS": "1", "A": {"ANTHROPIC_API_KEY": "x"}
  }
}`
	got, removed := settings.Filter(parse(t, text), nil)
	if diff := cmp.Diff(string(parse(t, text).Bytes()), string(got.Bytes())); diff != "" || removed != nil {
		t.Errorf("removed %v (-want +got):\n%s", removed, diff)
	}
	for _, text := range []string{`{"env":[{"ANTHROPIC_API_KEY":"x"}]}`, `{"env":null}`, `{"env":"ANTHROPIC_API_KEY"}`} {
		if got, removed := settings.Filter(parse(t, text), nil); !got.Equal(parse(t, text)) || removed != nil {
			t.Errorf("%s: got %s, %v", text, got.Bytes(), removed)
		}
	}
}

func TestFilterEndpoints(t *testing.T) {
	allowed := endpoints(t, "https://gw.example/claude", "http://127.0.0.1:4000")
	for text, stays := range map[string]bool{
		`"https://gw.example/claude"`: true, `"https://GW.example:443/claude/"`: true, `"http://127.0.0.1:4000/"`: true, `"https:\/\/gw.example\/claude"`: true,
		`"https://gw.example"`: false, `"https://gw.example/claude/x"`: false, `"https://gw.example.evil.example/claude"`: false, `"http://gw.example/claude"`: false,
		`"https://u@gw.example/claude"`: false, `"https://gw.example/claude?x"`: false, `"https://gw.example/x/../claude"`: false, `"http://127.0.0.1:4001"`: false,
		`["https://gw.example/claude"]`: false, `1`: false, `null`: false, `""`: false, `" https://gw.example/claude"`: false,
	} {
		for _, doc := range []string{`{"env":{"ANTHROPIC_BASE_URL":` + text + `}}`, `{"forceLoginGatewayUrl":` + text + `}`} {
			got, removed := settings.Filter(parse(t, doc), allowed)
			if kept := got.Equal(parse(t, doc)); kept != stays || kept != (removed == nil) {
				t.Errorf("%s: got %s, %v", doc, got.Bytes(), removed)
			}
		}
	}
	// An allowed URL is no allowed proxy, and no credential.
	got, _ := settings.Filter(parse(t, `{"env":{"HTTPS_PROXY":"https://gw.example/claude","ANTHROPIC_API_KEY":"https://gw.example/claude"}}`), allowed)
	if !got.Equal(parse(t, `{"env":{}}`)) {
		t.Errorf("got %s", got.Bytes())
	}
}

func TestFilterBase(t *testing.T) {
	got, removed := settings.FilterBase(parse(t, `{"apiKeyHelper":"x","env":{
		"ANTHROPIC_API_KEY":"x","CLAUDE_CONFIG_DIR":"/x","ANTHROPIC_CUSTOM_HEADERS":"x",
		"HTTPS_PROXY":"http://proxy.example:3128","NODE_EXTRA_CA_CERTS":"/ca.pem","ANTHROPIC_BASE_URL":"https://gw.example"}}`))
	want := `{"env":{"HTTPS_PROXY":"http://proxy.example:3128","NODE_EXTRA_CA_CERTS":"/ca.pem","ANTHROPIC_BASE_URL":"https://gw.example"}}`
	if !got.Equal(parse(t, want)) || len(removed) != 4 {
		t.Errorf("got %s, %v", got.Bytes(), removed)
	}
}

func TestFilterProperties(t *testing.T) {
	allowed := endpoints(t, "https://gw.example")
	rapid.Check(t, func(t *rapid.T) {
		d := documents.Draw(t, "d")
		once, removed := settings.Filter(d, allowed)
		twice, again := settings.Filter(once, allowed)
		if again != nil || string(twice.Bytes()) != string(once.Bytes()) {
			t.Fatalf("not idempotent: %s then %s, %v", once.Bytes(), twice.Bytes(), again)
		}
		if len(settings.Missing(d, once)) != len(removed) {
			t.Fatalf("%s: removed %v, got %s", d.Bytes(), removed, once.Bytes())
		}
		if all, _ := settings.Filter(d, nil); !settings.Split(all, once).Empty() {
			t.Fatalf("with fewer URLs allowed it keeps more: %s, %s", all.Bytes(), once.Bytes())
		}
		if !settings.Split(once, d).Empty() {
			t.Fatalf("it adds: %s became %s", d.Bytes(), once.Bytes())
		}
	})
}

// The firewall's keys of a tree do not come through the join with the base, and the base's do not leave by it.
func TestFirewallAroundMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, _ := settings.FilterBase(documents.Draw(t, "base"))
		own, _ := settings.Filter(documents.Draw(t, "own"), nil)
		_, of := settings.Filter(settings.Merge(base, own), nil)
		_, ofBase := settings.Filter(base, nil)
		for _, r := range of {
			if !slices.Contains(ofBase, r) {
				t.Fatalf("base %s own %s: %v is shown", base.Bytes(), own.Bytes(), r)
			}
		}
	})
}

func FuzzFilter(f *testing.F) {
	for _, in := range []string{
		`{"env":{"ANTHROPIC_BASE_URL":"https://gw.example/","https_proxy":"x"},"apiKeyHelper":"` + secret + `"}`,
		`{"\u0065nv":{"ANTHROPIC\u005fAPI_KEY":"x"}}`, `{"env":{"ANTHROPIC_API_KEY":1,"\ud800":{}}}`, "\xef\xbb\xbf{}", "", `{"env":[]}`,
		`{"permissions":{"allow":["a",1.50,null]},"hooks":{}}`, `{"a":1,"a":2}`, `{"a":` + strings.Repeat("[", 70),
	} {
		f.Add([]byte(in))
	}
	allowed := endpoints(f, "https://gw.example")
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := settings.Parse(in)
		if err != nil {
			return
		}
		got, removed := settings.Filter(d, allowed)
		shown := parse(t, string(got.Bytes()))
		if !shown.Equal(got) {
			t.Errorf("%s reads as %s", got.Bytes(), shown.Bytes())
		}
		if again, more := settings.Filter(shown, allowed); more != nil || !again.Equal(got) {
			t.Errorf("%s: a second look takes %v", got.Bytes(), more)
		}
		if removed == nil && !got.Equal(d) {
			t.Errorf("%s became %s, and nothing is said to be removed", d.Bytes(), got.Bytes())
		}
		if !settings.Split(got, d).Empty() {
			t.Errorf("%s became %s: it adds", d.Bytes(), got.Bytes())
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, in := range []string{`{"a":"` + secret + `"}`, `{"a":[1,2.50,{"b":null}]}`, "{}\x00", `{"a":"` + secret, `{"a":` + secret + `}`, "\xef\xbb\xbf{}x", `[]`, ` `} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := settings.Parse(in)
		if err != nil {
			if strings.Contains(string(in), secret) && strings.Contains(err.Error(), secret) {
				t.Errorf("got %q: it quotes the content", err)
			}
			return
		}
		if again := parse(t, string(d.Bytes())); string(again.Bytes()) != string(d.Bytes()) {
			t.Errorf("%s reads as %s", d.Bytes(), again.Bytes())
		}
	})
}
