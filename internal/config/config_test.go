package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/config"
)

var paths = config.Paths{Config: "/nonexistent/config.yaml", State: "/s", Runtime: "/r", Audit: "/a/audit.jsonl"}

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := config.Load("", paths, env())
	if err != nil {
		t.Fatal(err)
	}
	if c.Settings.Base != "" || config.SystemPaths().Settings != "/etc/claudefs/settings.json" {
		t.Errorf("base %q", c.Settings.Base)
	}
	if c.StateDir != "/s" || c.Mountpoint() != "/r/mnt" || c.ControlSocket() != "/r/control.sock" || c.VaultDir() != "/s/vault" ||
		c.Refresh.Window != 10*time.Minute || c.Vault.Backend != "auto" {
		t.Errorf("got %+v", c)
	}
	for _, uid := range []int{0, 1000} {
		if err := config.Default(config.DefaultPaths(uid)).Validate(); err != nil && !strings.HasPrefix(err.Error(), "runtime_dir") {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
}

// Default, then file, then environment.
func TestPrecedence(t *testing.T) {
	f := file(t, "state_dir: /from-file\nruntime_dir: /run-file\nrefresh: {window: 5m}\noauth: {client_id: x}\nruntimes: [unix:///x.sock]\n")
	c, err := config.Load(f, paths, env("CLAUDEFS_STATE_DIR", "/from-env", "CLAUDEFS_VAULT", "kernel", "CLAUDEFS_TOKEN_URL", "http://127.0.0.1:9/t", "CLAUDEFS_AUDIT_FILE", "/env.jsonl", "CLAUDEFS_PASSPHRASE_FILE", "/p"))
	if err != nil {
		t.Fatal(err)
	}
	for what, pair := range map[string][2]string{
		"state_dir": {c.StateDir, "/from-env"}, "runtime_dir": {c.RuntimeDir, "/run-file"}, "audit": {c.Audit.File, "/env.jsonl"},
		"vault": {c.Vault.Backend, "kernel"}, "token_url": {c.OAuth.TokenURL, "http://127.0.0.1:9/t"}, "client_id": {c.OAuth.ClientID, "x"},
		"encoding": {string(c.OAuth.Encoding), "json"}, "window": {c.Refresh.Window.String(), "5m0s"}, "runtimes": {strings.Join(c.Runtimes, ","), "unix:///x.sock"},
		"passphrase_file": {c.Vault.PassphraseFile, "/p"},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %q, want %q", what, pair[0], pair[1])
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "stat_dir: /x\n", `:1:1: unknown field "stat_dir"`},
		{"unknown key below", "oauth: {url: x}\n", `unknown field "url"`},
		{"case twin", "state_dir: /x\nState_Dir: /y\n", `:2:1: unknown field "State_Dir"`},
		{"doubled key", "state_dir: /x\nstate_dir: /y\n", ":2:1: mapping key"},
		{"several documents", "state_dir: /x\n---\nstate_dir: /y\n", ":2: want one YAML document"},
		{"first document empty", "---\n---\nstate_dir: /y\n", ":2: want one YAML document"},
		{"anchor", "state_dir: &a /x\n", "anchors"},
		{"null", "state_dir:\n", ":1:12: no value is given"},
		{"tab", "oauth:\n\tclient_id: x\n", ":2:1: found character"},
		{"nul", "state_dir: /x\x00\n", "not text"},
		{"list", "- a\n", "sequence was used"},
		{"wrong type", "runtimes: /x.sock\n", ":1:11:"},
		{"relative state_dir", "state_dir: state\n", `state_dir: "state": want an absolute path`},
		{"relative runtime_dir", "runtime_dir: ./run\n", `runtime_dir: "./run": want an absolute path`},
		{"relative audit", "audit: {file: audit.jsonl}\n", `audit.file: "audit.jsonl": want an absolute path`},
		{"relative base", "settings: {base: settings.json}\n", `settings.base: "settings.json": want an absolute path`},
		{"empty state_dir", "state_dir: \"\"\n", "want an absolute path"},
		{"unknown backend", "vault: {backend: plaintext}\n", "vault.backend: "},
		{"empty client", "oauth: {client_id: \"\"}\n", "oauth.client_id: is empty"},
		{"encoding", "oauth: {encoding: xml}\n", `oauth.encoding: "xml": want json or form`},
		{"negative window", "refresh: {window: -1m}\n", "refresh.window: -1m0s: want 0 to 24h"},
		{"long window", "refresh: {window: 25h}\n", "refresh.window"},
		{"window without unit", "refresh: {window: soon}\n", `invalid duration "soon"`},
	} {
		f := file(t, c.text)
		_, err := config.Load(f, paths, env())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), f) {
			t.Errorf("%s: got %v, want %s… %s", c.name, err, f, c.want)
		}
	}
}

func TestMissingFile(t *testing.T) {
	if _, err := config.Load("/nonexistent/other.yaml", paths, env()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("named: got %v", err)
	}
	p := paths
	p.Config = t.TempDir()
	if _, err := config.Load("", p, env()); err == nil {
		t.Error("a directory in the default place was taken for no file")
	}
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if _, err := config.Load(file(t, text), paths, env()); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// The message names who is to blame.
func TestBadEnvironment(t *testing.T) {
	_, err := config.Load(file(t, "state_dir: /x\n"), paths, env("CLAUDEFS_TOKEN_URL", "http://evil/"))
	if err == nil || !strings.HasPrefix(err.Error(), "environment CLAUDEFS_…: oauth.token_url: ") {
		t.Errorf("got %v", err)
	}
}

func TestTokenURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://platform.claude.com/v1/oauth/token": true,
		"https://10.0.0.1:8443/t":                    true,
		"HTTPS://example.com/":                       true,
		"http://127.0.0.1:8080/t":                    true,
		"http://127.9.9.9/t":                         true,
		"http://[::1]:8080/t":                        true,
		"http://localhost:1/t":                       true,
		"http://evil":                                false,
		"http://10.0.0.1/":                           false,
		"http://0.0.0.0/":                            false,
		"http://127.0.0.1.evil.com/":                 false,
		"http://127.0.0.1@evil.com/":                 false,
		"http://localhost.evil.com/":                 false,
		"http://2130706433/":                         false,
		"http://[::ffff:8.8.8.8]/":                   false,
		"https://user@example.com/":                  false,
		"https://user:hunter2@example.com/":          false,
		"https://user:hunter2@exa mple.com/":         false,
		"https://example.com/#f":                     false,
		"https:///path":                              false,
		"https://:443/":                              false,
		"https:example.com":                          false,
		"ftp://example.com/":                         false,
		"file:///etc/passwd":                         false,
		"//example.com/":                             false,
		"example.com":                                false,
		"":                                           false,
	} {
		c := config.Default(paths)
		c.OAuth.TokenURL = url
		err := c.Validate()
		if (err == nil) != ok {
			t.Errorf("%q: got %v, want ok %v", url, err, ok)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is quoted: %v", err)
		}
	}
}
