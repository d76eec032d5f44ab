package credfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/claudefs/claudefs/internal/credfile"
)

// Parse never panics, its errors never quote a string of the file, and what it takes survives Render and Parse.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		good(), `{}`, `{"claudeAiOauth":null}`, `{"claudeAiOauth":{"accessToken":"` + access + `","expiresAt":1e12}}`,
		`{"mcpOAuth":{"a":{"b":[1,2.50,{"c":null}]}},"claudeAiOauth":{"scopes":[]}}`, good()[:70], good() + "x",
		"\xef\xbb\xbf{}", "{}\x00\x00", `{"a":1,"a":2}`, `{"claudeAiOauth":{"expiresAt":` + access + `}}`,
		`{"claudeAiOauth":{"accessToken":"\ud800"}}`, `{"":"<&>\u2028"}`, `{"claudeAiOauth":{"accessToken":["` + access + `"]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		file, err := credfile.Parse(in)
		if err != nil {
			if !errors.Is(err, credfile.ErrSyntax) {
				t.Errorf("got %v, want ErrSyntax", err)
			}
			if bytes.Contains(in, []byte(access)) && strings.Contains(err.Error(), access) {
				t.Errorf("got %q: it quotes the token", err)
			}
			return
		}
		out, err := credfile.Render(file.Login, file.Others)
		if err != nil {
			t.Fatalf("render what was parsed: %v", err)
		}
		if len(out)%credfile.SizeClass != 0 {
			t.Errorf("got %d bytes, want a multiple of %d", len(out), credfile.SizeClass)
		}
		if !json.Valid(out) {
			t.Errorf("rendered file is not JSON")
		}
		again, err := credfile.Parse(out)
		if err != nil && len(out) <= credfile.MaxSize {
			t.Fatalf("parse what was rendered: %v", err)
		}
		if err == nil {
			if diff := cmp.Diff(file, again); diff != "" {
				t.Errorf("login (-want +got):\n%s", diff)
			}
		}
	})
}
