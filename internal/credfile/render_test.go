package credfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/vault"
)

func TestRenderMembers(t *testing.T) {
	login := &credfile.Login{AccessToken: secret(access), Scopes: []string{"user:inference"}, ExpiresAt: time.UnixMilli(1800000000123)}
	b, err := credfile.Render(login, secret(`{"mcpOAuth":{"s|1":{"accessToken":"m"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"claudeAiOauth": map[string]any{
			"accessToken": access, "refreshToken": nil, "expiresAt": 1800000000123.0,
			"scopes": []any{"user:inference"}, "subscriptionType": nil, "rateLimitTier": nil,
		},
		"mcpOAuth": map[string]any{"s|1": map[string]any{"accessToken": "m"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
}

// What a client left beside its login must not be able to bring a login of its own, and "null" is no object.
func TestRenderOthers(t *testing.T) {
	b, err := credfile.Render(nil, secret(`{"claudeAiOauth":{"accessToken":"`+access+`"},"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(bytes.TrimRight(b, " \n")), `{"a":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, others := range []string{"null", "[]", "1", `{"a"`, access} {
		_, err := credfile.Render(&credfile.Login{}, secret(others))
		if !errors.Is(err, credfile.ErrSyntax) {
			t.Errorf("%s: got %v, want ErrSyntax", others, err)
		} else if strings.Contains(err.Error(), access) {
			t.Errorf("%s: got %q: it quotes the content", others, err)
		}
	}
}

// Every rendered file is a multiple of the class, and grows by one class at a time.
func TestRenderSizes(t *testing.T) {
	last := 0
	for n := range 5 * credfile.SizeClass {
		b, err := credfile.Render(&credfile.Login{AccessToken: secret(strings.Repeat("x", n))}, vault.Secret{})
		if err != nil {
			t.Fatal(err)
		}
		if len(b)%credfile.SizeClass != 0 || len(b) < last || len(b) > last+credfile.SizeClass && last > 0 {
			t.Fatalf("token of %d bytes: got %d bytes after %d", n, len(b), last)
		}
		if b[len(b)-1] != '\n' || !json.Valid(b) {
			t.Fatalf("token of %d bytes: no JSON line", n)
		}
		if text := len(bytes.TrimRight(b, " \n")); len(b)-text > credfile.SizeClass {
			t.Fatalf("token of %d bytes: %d bytes of padding", n, len(b)-text)
		}
		last = len(b)
	}
}

func drawLogin(t *rapid.T) *credfile.Login {
	text := func(name string) string { return rapid.String().Draw(t, name) }
	l := &credfile.Login{
		AccessToken: secret(text("access")), RefreshToken: secret(text("refresh")),
		SubscriptionType: text("subscription"), RateLimitTier: text("tier"),
		Scopes: rapid.SliceOfN(rapid.String(), 1, 5).Draw(t, "scopes"),
	}
	if ms := rapid.Int64Range(1e11-1, 1e14).Draw(t, "expiry"); ms >= 1e11 {
		l.ExpiresAt = time.UnixMilli(ms)
	}
	return l
}

// jsonValue draws any JSON value, with numbers as their text.
func jsonValue(depth int) *rapid.Generator[any] {
	flat := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.StringMatching(`-?[1-9][0-9]{0,40}(\.[0-9]{1,9})?(e[+-]?[0-9]{1,3})?`), func(s string) any { return json.Number(s) }),
		rapid.Just[any](nil),
	)
	if depth == 0 {
		return flat
	}
	return rapid.OneOf(flat,
		rapid.Map(rapid.SliceOfN(jsonValue(depth-1), 0, 3), func(s []any) any { return s }),
		rapid.Map(rapid.MapOfN(rapid.String(), jsonValue(depth-1), 0, 3), func(m map[string]any) any { return m }))
}

// decode reads JSON without losing a digit.
func decode(t testing.TB, b []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode: %v", err)
	}
	return v
}

// A file keeps its login and every other member, to the last digit, through Parse, Render and Parse.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		login := drawLogin(rt)
		others := rapid.MapOfN(rapid.String(), jsonValue(3), 0, 4).Draw(rt, "others")
		delete(others, "claudeAiOauth")
		raw, err := json.Marshal(others)
		if err != nil {
			rt.Fatal(err)
		}
		b, err := credfile.Render(login, vault.NewSecret(raw))
		if err != nil {
			rt.Fatal(err)
		}
		f, err := credfile.Parse(b)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(login, f.Login); diff != "" {
			rt.Errorf("login (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(decode(t, raw), decode(t, f.Others.Reveal())); diff != "" {
			rt.Errorf("others (-want +got):\n%s", diff)
		}
		again, err := credfile.Render(f.Login, f.Others)
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(b, again) {
			rt.Errorf("rendered again: got %s, want %s", again, b)
		}
	})
}
