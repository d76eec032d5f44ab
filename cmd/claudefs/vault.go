package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/vault"
)

func newVaultCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "vault", Short: "Show, lock and unlock the vault", RunE: needsSubcommand}
	var asJSON bool
	status := &cobra.Command{
		Use: "status", Short: "Show what protects the vault", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runVaultStatus(cmd, e, asJSON) },
	}
	status.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	lock := &cobra.Command{
		Use: "lock", Short: "Have the daemon forget the vault key", Args: exactly(0),
		Long: `Have the daemon forget the vault key. Tokens that it has served stay in its memory and are served until they
expire; nothing is renewed until the vault is unlocked.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := e.daemon()
			if err != nil {
				return err
			}
			return client.LockVault(cmd.Context())
		},
	}
	unlock := &cobra.Command{
		Use: "unlock", Short: "Open the daemon's vault", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return runVaultUnlock(cmd, e) },
	}
	cmd.AddCommand(status, lock, unlock)
	return cmd
}

// vaultStatus is the JSON output of vault status.
type vaultStatus struct {
	SchemaVersion int `json:"schemaVersion"`
	control.VaultStatus
	Daemon bool `json:"daemon"`
}

func runVaultStatus(cmd *cobra.Command, e *env, asJSON bool) error {
	client, c, err := e.daemon()
	if err != nil {
		return err
	}
	out := vaultStatus{SchemaVersion: 1}
	s, err := client.Status(cmd.Context())
	switch {
	case err == nil:
		out.VaultStatus, out.Daemon = s.Vault, true
	case errors.Is(err, control.ErrNoDaemon):
		v, err := vault.Open(vault.Config{Dir: c.VaultDir()})
		if err != nil {
			return err
		}
		out.Directory, out.Locked = c.VaultDir(), true
		for _, b := range v.Backends() {
			out.Backends = append(out.Backends, string(b))
		}
	default:
		return err
	}
	if asJSON {
		return printJSON(e.Stdout, out)
	}
	state := "open in the daemon"
	if out.Locked && out.Daemon {
		state = "locked"
	} else if !out.Daemon {
		state = "no daemon holds it open"
	}
	return printTable(e.Stdout, [][]string{{"directory", out.Directory}, {"key in", strings.Join(out.Backends, ", ")}, {"state", state}})
}

func runVaultUnlock(cmd *cobra.Command, e *env) error {
	client, c, err := e.daemon()
	if err != nil {
		return err
	}
	s, err := client.Status(cmd.Context())
	if err != nil {
		return err
	}
	var pass vault.Secret
	byPassphrase := len(s.Vault.Backends) > 0 && s.Vault.Backends[0] == string(vault.BackendPassphrase)
	if byPassphrase && c.Vault.PassphraseFile == "" && len(c.Vault.PassphraseCommand) == 0 && isTerminal(e.Stdin) {
		if pass, err = e.askPassphrase(); err != nil {
			return err
		}
	}
	defer pass.Wipe()
	if err := client.UnlockVault(cmd.Context(), pass.Reveal()); err != nil {
		return err
	}
	fmt.Fprintln(e.Stdout, "claudefs: vault is open")
	return nil
}

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// newVaultHelperCommand is the child that talks to the OS keyring and can be killed.
func newVaultHelperCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "vault-helper", Hidden: true, Args: exactly(0),
		RunE: func(*cobra.Command, []string) error { return vault.RunKeyringHelper(e.Stdin, e.Stdout) },
	}
}
