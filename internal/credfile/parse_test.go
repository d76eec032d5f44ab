package credfile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/vault"
)

// Tokens that must be in no error message.
const (
	access  = "sk-ant-oat01-ACCESS"
	refresh = "sk-ant-ort01-REFRESH"
)

func good() string {
	return `{"claudeAiOauth": {"accessToken": "` + access + `", "refreshToken": "` + refresh + `",
  "expiresAt": 1800000000123, "scopes": ["user:profile", "user:inference"],
  "subscriptionType": "max", "rateLimitTier": "default_claude_max_5x"}}`
}

func secret(s string) vault.Secret { return vault.NewSecret([]byte(s)) }

func TestParseLogin(t *testing.T) {
	f, err := credfile.Parse([]byte(good()))
	if err != nil {
		t.Fatal(err)
	}
	want := &credfile.Login{
		AccessToken: secret(access), RefreshToken: secret(refresh), ExpiresAt: time.UnixMilli(1800000000123),
		Scopes: []string{"user:profile", "user:inference"}, SubscriptionType: "max", RateLimitTier: "default_claude_max_5x",
	}
	if diff := cmp.Diff(want, f.Login); diff != "" {
		t.Errorf("login (-want +got):\n%s", diff)
	}
	if err := f.CheckLogin(); err != nil {
		t.Errorf("CheckLogin: %v", err)
	}
	if got, want := string(f.Others.Reveal()), "{}"; got != want {
		t.Errorf("others: got %s, want %s", got, want)
	}
}

// A client that logs out writes blanks or nulls; that is a file, and no login.
func TestParseBlank(t *testing.T) {
	for _, in := range []string{
		`{}`, `{"claudeAiOauth": null}`, `{"claudeAiOauth": {}}`,
		`{"claudeAiOauth": {"accessToken": "", "refreshToken": "", "expiresAt": 0}}`,
		`{"claudeAiOauth": {"accessToken": null, "refreshToken": null, "expiresAt": null, "scopes": null}}`,
	} {
		f, err := credfile.Parse([]byte(in))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if !f.Login.Blank() {
			t.Errorf("%s: got a login, want a blank one", in)
		}
		if err := f.CheckLogin(); !errors.Is(err, credfile.ErrSyntax) {
			t.Errorf("%s: CheckLogin: got %v, want ErrSyntax", in, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	login := func(member string) string {
		return `{"claudeAiOauth": {"accessToken": "` + access + `", ` + member + `}}`
	}
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "line 1, column 1: it ends too early"},
		{"not JSON", "accessToken=" + access, "line 1, column 1: not JSON"},
		{"YAML", "claudeAiOauth:\n  accessToken: " + access, "line 1, column 1: not JSON"},
		{"literal cut on line 3", "{\n\"a\": 1,\n\"b\": tru }", "line 3, column 9: not JSON"},
		{"comma too many on line 2", "{\"a\": {\"b\": 1},\n \"c\": [1,,2]}", "line 2, column 10: not JSON"},
		{"truncated in a string", good()[:60], "it ends too early"},
		{"truncated after a value", good()[:strings.Index(good(), ", \"refresh")], "it ends too early"},
		{"array", `["` + access + `"]`, "want a JSON object"},
		{"string", `"` + access + `"`, "want a JSON object"},
		{"null", `null`, "want a JSON object"},
		{"login is a string", `{"claudeAiOauth": "` + access + `"}`, "claudeAiOauth: want an object"},
		{"login is a list", `{"claudeAiOauth": ["` + access + `"]}`, "claudeAiOauth: want an object"},
		{"token is a number", `{"claudeAiOauth": {"accessToken": 90817263}}`, "claudeAiOauth.accessToken: want a string"},
		{"refresh token is an object", login(`"refreshToken": {"x": "` + refresh + `"}`), "claudeAiOauth.refreshToken: want a string"},
		{"expiry is a string", login(`"expiresAt": "90817263"`), "claudeAiOauth.expiresAt: want a number"},
		{"expiry is too large a number", login(`"expiresAt": 90817263e999`), "claudeAiOauth.expiresAt: want a number"},
		{"expiry in seconds", login(`"expiresAt": 1800000000`), "claudeAiOauth.expiresAt: want unix time in milliseconds"},
		{"expiry in microseconds", login(`"expiresAt": 1800000000000000`), "claudeAiOauth.expiresAt: want unix time in milliseconds"},
		{"scopes is a string", login(`"scopes": "user:profile 90817263"`), "claudeAiOauth.scopes: want a list of strings"},
		{"scopes hold a number", login(`"scopes": [90817263]`), "claudeAiOauth.scopes: want a list of strings"},
		{"scopes hold null", login(`"scopes": [null]`), "claudeAiOauth.scopes: want a list of strings"},
		{"tier is a number", login(`"rateLimitTier": 90817263`), "claudeAiOauth.rateLimitTier: want a string"},
		{"10 MB", good() + strings.Repeat(" ", 10<<20), "at most 1048576 are accepted"},
		{"login doubled", strings.TrimSuffix(good(), "}") + ",\n\"claudeAiOauth\": null}", "line 4, column 16: key given twice"},
		{"token doubled", login(`"accessToken": "` + refresh + `"`), "line 1, column 71: key given twice"},
		{"token doubled, one escaped", login(`"\u0061ccessToken": "` + refresh + `"`), "key given twice"},
		{"doubled in other members", `{"mcpOAuth": {"s": [{"k": 1, "k": 2}]}}`, "line 1, column 33: key given twice"},
		{"text after the object", good() + "\n" + access, "line 4, column 1: text after the object"},
		{"second object", good() + good(), "line 3, column 72: text after the object"},
		{"byte order mark", "\xef\xbb\xbf" + good(), "line 1, column 1: byte order mark"},
		{"NUL padding", good() + strings.Repeat("\x00", 512), "line 3, column 72: text after the object"},
		{"all NUL", strings.Repeat("\x00", 512), "line 1, column 1: not JSON"},
		{"not UTF-8", "{\"a\":\n\"\xff\"}", "line 2, column 2: not UTF-8"},
		{"nested too deeply", `{"a": ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "line 1, column 71: nested too deeply"},
		{"objects nested too deeply", strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), "nested too deeply"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := credfile.Parse([]byte(tc.in))
			if !errors.Is(err, credfile.ErrSyntax) {
				t.Fatalf("got %v, want ErrSyntax", err)
			}
			if got := err.Error(); !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want it to say %q", got, tc.want)
			}
			for _, content := range []string{access, refresh, "sk-ant", "90817263"} {
				if strings.Contains(err.Error(), content) {
					t.Errorf("got %q: it quotes the file", err)
				}
			}
		})
	}
}

// The client reads keys in exact case; what it does not see must not become our login.
func TestParseIsCaseSensitive(t *testing.T) {
	in := `{"claudeAiOauth": {"accessToken": "` + access + `", "ACCESSTOKEN": "other", "Scopes": ["x"]}, "CLAUDEAIOAUTH": {}}`
	f, err := credfile.Parse([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(f.Login.AccessToken.Reveal()), access; got != want {
		t.Errorf("access token: got %q, want %q", got, want)
	}
	if got := f.Login.Scopes; got != nil {
		t.Errorf("scopes: got %q, want none", got)
	}
	if got, want := string(f.Others.Reveal()), `{"CLAUDEAIOAUTH":{}}`; got != want {
		t.Errorf("others: got %s, want %s", got, want)
	}
}

func TestCheckLoginNeedsScopes(t *testing.T) {
	for _, scopes := range []string{``, `, "scopes": []`, `, "scopes": null`} {
		f, err := credfile.Parse([]byte(`{"claudeAiOauth": {"accessToken": "` + access + `"` + scopes + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		err = f.CheckLogin()
		if got, want := fmt.Sprint(err), "claudeAiOauth.scopes is missing or empty"; !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want it to say %q", scopes, got, want)
		}
	}
}

func TestCredentialGoesOnCounting(t *testing.T) {
	f, err := credfile.Parse([]byte(good()))
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1790000000000)
	first := f.Login.Credential("work", nil, now)
	second := f.Login.Credential("work", first, now)
	if got, want := second.Generation, first.Generation+1; got != want {
		t.Errorf("generation: got %d, want %d", got, want)
	}
	if got, want := second.RotatedAt, first.RotatedAt.Add(time.Millisecond); !got.Equal(want) {
		t.Errorf("modification time: got %v, want %v", got, want)
	}
	// The record has bytes of its own: wiping it leaves the parsed file alone.
	first.AccessToken.Wipe()
	if got, want := string(f.Login.AccessToken.Reveal()), access; got != want {
		t.Errorf("access token: got %q, want %q", got, want)
	}
}
