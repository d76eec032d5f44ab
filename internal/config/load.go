package config

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"github.com/claudefs/claudefs/internal/guarded"
	"github.com/claudefs/claudefs/internal/strictyaml"
)

// maxText is more than a configuration may have, in bytes.
const maxText = 1 << 20

// Load reads the configuration file over the defaults. file "" is the default place, where it may be missing; a file
// that was named must be there. getenv gives the environment.
func Load(file string, paths Paths, getenv func(string) string) (*Config, error) {
	c := Default(paths)
	named := file != ""
	if !named {
		file = paths.Config
	}
	b, err := guarded.ReadFile(file, maxText) // Fail closed: it names the policy and the token endpoint
	switch {
	case err == nil:
		if err := strictyaml.Decode(file, b, c, false); err != nil {
			return nil, err
		}
	case named || !errors.Is(err, iofs.ErrNotExist):
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	fileErr := c.Validate()
	c.fromEnv(getenv)
	if err := c.Validate(); err != nil {
		if fileErr == nil {
			file = "environment CLAUDEFS_…" // the file was good, so a variable is not
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// fromEnv applies CLAUDEFS_… for what flags cannot say. No variable carries a secret: another process of the same
// user can read the environment.
func (c *Config) fromEnv(getenv func(string) string) {
	for key, field := range map[string]*string{
		"CLAUDEFS_STATE_DIR":       &c.StateDir,
		"CLAUDEFS_RUNTIME_DIR":     &c.RuntimeDir,
		"CLAUDEFS_AUDIT_FILE":      &c.Audit.File,
		"CLAUDEFS_VAULT":           &c.Vault.Backend,
		"CLAUDEFS_PASSPHRASE_FILE": &c.Vault.PassphraseFile,
		"CLAUDEFS_TOKEN_URL":       &c.OAuth.TokenURL,
	} {
		if v := getenv(key); v != "" {
			*field = v
		}
	}
}
