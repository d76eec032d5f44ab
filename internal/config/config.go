// Package config reads the configuration: defaults, then the file, then the environment, then flags.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// Config is everything that a daemon or an offline command needs to know. Field names in the file are those of the
// yaml tags.
type Config struct {
	StateDir   string   `yaml:"state_dir"`   // trees/ and vault/
	RuntimeDir string   `yaml:"runtime_dir"` // control.sock, mnt/
	Audit      Audit    `yaml:"audit"`
	Vault      Vault    `yaml:"vault"`
	OAuth      OAuth    `yaml:"oauth"`
	Refresh    Refresh  `yaml:"refresh"`
	Keeper     Keeper   `yaml:"keeper"`
	Settings   Settings `yaml:"settings"`
	Runtimes   []string `yaml:"runtimes"` // unix:// sockets of container runtimes; empty: kernel facts only
}

// Audit says where the audit log is.
type Audit struct {
	File string `yaml:"file"`
}

// Vault says what protects the vault key.
type Vault struct {
	Backend string `yaml:"backend"`
	// PassphraseFile and PassphraseCommand give the passphrase of a passphrase slot; without either it is asked for.
	PassphraseFile    string   `yaml:"passphrase_file"`
	PassphraseCommand []string `yaml:"passphrase_command"`
}

// OAuth names the authorization server.
type OAuth struct {
	TokenURL string           `yaml:"token_url"`
	ClientID string           `yaml:"client_id"`
	Encoding refresh.Encoding `yaml:"encoding"`
}

// Refresh says when tokens are renewed.
type Refresh struct {
	Window time.Duration `yaml:"window"`
}

// Settings says what trees' settings.json is laid over.
type Settings struct {
	// Base is the host's file, in the client's own format. It may be missing; it is read again when it changes.
	Base string `yaml:"base"`
}

// Keeper says how long the mount waits for its server.
type Keeper struct {
	// Watchdog is how long a request may take until the server counts as hung and is replaced.
	Watchdog time.Duration `yaml:"watchdog"`
	// KeyTimeout is how long the vault key, and other secrets, wait for another server after the last one has died.
	KeyTimeout time.Duration `yaml:"key_timeout"`
}

// Default returns the configuration of a host where nothing is configured: system directories for root, the XDG
// directories for anybody else.
func Default(p Paths) *Config {
	return &Config{
		StateDir: p.State, RuntimeDir: p.Runtime, Audit: Audit{File: p.Audit},
		Vault: Vault{Backend: string(vault.BackendAuto)},
		OAuth: OAuth{
			TokenURL: "https://platform.claude.com/v1/oauth/token",
			ClientID: "9d1c250a-e61b-44d9-88ed-5944d1962f5e", Encoding: refresh.EncodingJSON,
		},
		Refresh:  Refresh{Window: 10 * time.Minute},
		Keeper:   Keeper{Watchdog: 30 * time.Second, KeyTimeout: 10 * time.Minute},
		Settings: Settings{Base: p.Settings},
		Runtimes: p.Runtimes,
	}
}

// Mountpoint is where the tree of trees is mounted when nobody says otherwise.
func (c *Config) Mountpoint() string { return filepath.Join(c.RuntimeDir, "mnt") }

// ControlSocket is where the daemon listens for commands.
func (c *Config) ControlSocket() string { return filepath.Join(c.RuntimeDir, "control.sock") }

// VaultDir is where the vault is.
func (c *Config) VaultDir() string { return filepath.Join(c.StateDir, "vault") }

// Validate checks what cannot be left to the part that uses it.
func (c *Config) Validate() error {
	for _, d := range []struct{ key, path string }{
		{"state_dir", c.StateDir}, {"runtime_dir", c.RuntimeDir}, {"audit.file", c.Audit.File},
	} {
		if !filepath.IsAbs(d.path) {
			return fmt.Errorf("%s: %q: want an absolute path", d.key, d.path)
		}
	}
	if c.Settings.Base != "" && !filepath.IsAbs(c.Settings.Base) {
		return fmt.Errorf("settings.base: %q: want an absolute path, or \"\" for none", c.Settings.Base)
	}
	if _, err := vault.ParseBackend(c.Vault.Backend); err != nil {
		return fmt.Errorf("vault.backend: %w", err)
	}
	if err := checkEndpoint(c.OAuth.TokenURL); err != nil {
		return fmt.Errorf("oauth.token_url: %w", err)
	}
	if c.OAuth.ClientID == "" {
		return fmt.Errorf("oauth.client_id: is empty")
	}
	if c.OAuth.Encoding != refresh.EncodingJSON && c.OAuth.Encoding != refresh.EncodingForm {
		return fmt.Errorf("oauth.encoding: %q: want json or form", c.OAuth.Encoding)
	}
	if c.Refresh.Window < 0 || c.Refresh.Window > 24*time.Hour {
		return fmt.Errorf("refresh.window: %v: want 0 to 24h", c.Refresh.Window)
	}
	if c.Keeper.Watchdog < time.Second || c.Keeper.Watchdog > time.Hour {
		return fmt.Errorf("keeper.watchdog: %v: want 1s to 1h", c.Keeper.Watchdog)
	}
	if c.Keeper.KeyTimeout < time.Second || c.Keeper.KeyTimeout > 24*time.Hour {
		return fmt.Errorf("keeper.key_timeout: %v: want 1s to 24h", c.Keeper.KeyTimeout)
	}
	return nil
}

// checkEndpoint lets refresh tokens go to https only, and to http on the loopback interface. An address that holds a
// password is not quoted.
func checkEndpoint(raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("want a URL")
	}
	if u.Hostname() == "" {
		return fmt.Errorf("%q: want a URL with a host", u.Redacted())
	}
	if u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%q: want no user and no fragment", u.Redacted())
	}
	if u.Scheme == "https" {
		return nil
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	// Fail closed: a refresh token must not travel in clear.
	return fmt.Errorf("%q: want https (http is accepted for loopback addresses only)", raw)
}

// Paths are the directories that the defaults are made of.
type Paths struct {
	Config   string // config.yaml
	State    string
	Runtime  string
	Audit    string
	Settings string // the host's base of settings.json
	Runtimes []string
}

// isSocket reports whether path is a socket.
func isSocket(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode()&os.ModeSocket != 0
}
