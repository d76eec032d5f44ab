package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/term"

	"github.com/claudefs/claudefs/internal/config"
	"github.com/claudefs/claudefs/vault"
)

// passphrase returns how the vault's passphrase is got: from a file, from a command's output, or from the terminal.
// It is never taken from arguments or the environment.
func (e *env) passphrase(c *config.Config) func(context.Context) (vault.Secret, error) {
	return func(ctx context.Context) (vault.Secret, error) {
		switch {
		case c.Vault.PassphraseFile != "":
			b, err := os.ReadFile(c.Vault.PassphraseFile)
			if err != nil {
				return vault.Secret{}, fmt.Errorf("read passphrase file: %w", err)
			}
			return firstLine(b), nil
		case len(c.Vault.PassphraseCommand) > 0:
			// A mounted daemon's umask is 0, for its callers' sake; the command must not inherit that.
			argv := append([]string{"-c", `umask 077; exec "$@"`, "claudefs"}, c.Vault.PassphraseCommand...)
			b, err := exec.CommandContext(ctx, "/bin/sh", argv...).Output()
			if err != nil {
				return vault.Secret{}, fmt.Errorf("run passphrase command: %w", err)
			}
			return firstLine(b), nil
		case e.Stdin != nil && term.IsTerminal(int(e.Stdin.Fd())):
			return e.askPassphrase()
		}
		return vault.Secret{}, errors.New("no terminal to ask on; set vault.passphrase_file or vault.passphrase_command")
	}
}

func (e *env) askPassphrase() (vault.Secret, error) {
	fmt.Fprint(e.Stderr, "Passphrase of the vault: ")
	b, err := term.ReadPassword(int(e.Stdin.Fd()))
	fmt.Fprintln(e.Stderr)
	if err != nil {
		return vault.Secret{}, fmt.Errorf("read passphrase: %w", err)
	}
	return vault.NewSecret(b), nil
}

func firstLine(b []byte) vault.Secret {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return vault.NewSecret(bytes.TrimSuffix(line, []byte("\r")))
}
