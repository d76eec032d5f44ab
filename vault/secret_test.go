package vault_test

import (
	"bytes"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/vault"
)

// holder keeps a secret where fmt cannot call its methods.
type holder struct{ s vault.Secret }

// leaks reports the form in which text shows the token.
func leaks(text string) string {
	decimal := strings.Trim(fmt.Sprint([]byte(token)), "[]")
	for form, s := range map[string]string{
		"clear": token, "hex": hex.EncodeToString([]byte(token)), "bytes": decimal,
		"hex bytes": fmt.Sprintf("% x", token), "comma bytes": strings.ReplaceAll(decimal, " ", ", "),
		"Go bytes": strings.Trim(fmt.Sprintf("%#v", []byte(token)), "[]byte{}"),
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
			return form
		}
	}
	return ""
}

func TestSecretNeverPrints(t *testing.T) {
	s := vault.NewSecret([]byte(token))
	var nilErr error
	values := map[string]any{
		"value": s, "pointer": &s, "slice": []vault.Secret{s}, "array": [1]vault.Secret{s},
		"map": map[string]vault.Secret{"a": s}, "any": []any{s}, "credential": credential("a"),
		"exported field": struct{ S vault.Secret }{s}, "unexported field": holder{s}, "unexported behind a pointer": &holder{s},
		"deeper": []map[string]*holder{{"a": {s}}}, "error": fmt.Errorf("x %v: %w", s, nilErr),
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% x", "%#x", "%X", "%d", "%b", "%c", "%U", "%t", "%p", "%e"} {
			if form := leaks(fmt.Sprintf(verb, v)); form != "" {
				t.Errorf("%s of %s shows the secret (%s)", verb, name, form)
			}
		}
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
		if b, err := xml.Marshal(v); err == nil {
			out.Write(b)
		}
		_ = gob.NewEncoder(&out).Encode(v)
		if form := leaks(out.String()); form != "" {
			t.Errorf("encoding of %s shows the secret (%s): %s", name, form, out.String())
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got, want := fmt.Sprintf(verb, s), "REDACTED"; got != want {
			t.Errorf("%s: got %q, want %q", verb, got, want)
		}
	}
	if err := gob.NewEncoder(new(bytes.Buffer)).Encode(s); err == nil {
		t.Error("gob: got no error, want a refusal")
	}
}

// The runtime prints what a program panics with.
func TestSecretInPanic(t *testing.T) {
	for _, how := range []string{"child-panic", "child-panic-in", "child-panic-err"} {
		cmd := child(t, how)
		cmd.Stderr = nil
		_, err := cmd.Output()
		ee, ok := err.(*exec.ExitError)
		if !ok || !bytes.Contains(ee.Stderr, []byte("panic:")) {
			t.Fatalf("%s: got %v, want a panic", how, err)
		}
		if form := leaks(string(ee.Stderr)); form != "" {
			t.Errorf("%s shows the secret (%s):\n%s", how, form, ee.Stderr)
		}
	}
}

func TestSecretBytes(t *testing.T) {
	s := vault.NewSecret([]byte(token))
	c := s.Clone()
	if !s.Equal(c) || s.Equal(vault.Secret{}) || !s.In([]byte("x"+token)) || (vault.Secret{}).In([]byte("x")) {
		t.Error("Equal or In is wrong")
	}
	if got, want := len(s.Fingerprint()), 8; got != want || leaks(s.Fingerprint()) != "" {
		t.Errorf("fingerprint: got %d characters, want %d", got, want)
	}
	copied := s
	s.Wipe()
	if !copied.IsZero() || !s.IsZero() || c.IsZero() {
		t.Error("Wipe must empty every copy and no clone")
	}
	if (vault.Secret{}).Fingerprint() != "" || !vault.NewSecret(nil).IsZero() {
		t.Error("the empty secret has no fingerprint")
	}
}
