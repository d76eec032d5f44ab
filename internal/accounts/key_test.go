package accounts_test

import (
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/accounts"
)

func TestSetKey(t *testing.T) {
	w := newWorld(t)
	file := []byte(" sk-ant-api03-x\n")
	i, err := w.SetKey(t.Context(), "key", file)
	if err != nil || i.Kind != "api-key" || i.State != "valid" || i.Generation != 1 || i.Refreshable {
		t.Fatalf("got %+v %v", i, err)
	}
	clear(file) // as callers do
	if i, err = w.SetKey(t.Context(), "key", []byte("sk-ant-api03-y")); err != nil || i.Generation != 2 {
		t.Errorf("again: %+v %v", i, err)
	}
	w.start(t)
	c, err := w.Tokens.Token(t.Context(), "key")
	if err != nil || string(c.AccessToken.Reveal()) != "sk-ant-api03-y" {
		t.Errorf("token: %v", err)
	}
	// A key and a login do not take each other's place.
	_, login := w.file(t)
	if _, err := w.Import(t.Context(), "key", login); err == nil || !strings.Contains(err.Error(), "is an API key") {
		t.Errorf("login over key: %v", err)
	}
	w.add(t, "work")
	if _, err := w.SetKey(t.Context(), "work", []byte("x")); err == nil || !strings.Contains(err.Error(), "is a login") {
		t.Errorf("key over login: %v", err)
	}
}

func TestSetKeyRefuses(t *testing.T) {
	for file, want := range map[string]string{
		" \n": "it is empty", "a b": "one word", "a\x00": "one word", "sk-ant-oat01-x": "use claudefs import",
		strings.Repeat("x", accounts.MaxKey+1): "at most",
	} {
		if _, err := accounts.CheckKey([]byte(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", file, err, want)
		}
	}
}
