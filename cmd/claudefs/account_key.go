package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/vault"
)

func newSetKeyCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "set-key NAME [FILE|-]", Short: "Take an API key into the vault", Args: counted(cobra.RangeArgs(1, 2)),
		Long: `Take an API key into the vault, as a new account or as the next key of one that exists. The key is read from FILE, or
from standard input; never from an argument or a variable, which other processes can see.

A tree gets it by a rule with "credential: api-key": its client runs a helper that reads the key. claudefs writes
it to no disk but the vault's, encrypted.`,
		Example: `  pass show anthropic/work | claudefs account set-key work-key`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := vault.ParseAccountID(args[0]); err != nil {
				return usageError{err}
			}
			b, err := e.readKey(args[1:])
			if err != nil {
				return err
			}
			defer clear(b)
			if _, err := accounts.CheckKey(b); err != nil {
				return err
			}
			return e.withLogins(cmd.Context(), true, func(l logins) error {
				i, err := l.SetKey(cmd.Context(), args[0], b)
				if err != nil {
					return err
				}
				fmt.Fprintf(e.Stdout, "claudefs: account %s: key set, generation %d\n", i.Name, i.Generation)
				return nil
			})
		},
	}
}

func (e *env) readKey(args []string) ([]byte, error) {
	r := e.Stdin
	if len(args) == 1 && args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return nil, fmt.Errorf("set key: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, accounts.MaxKey+64))
	if err != nil {
		return nil, fmt.Errorf("set key: %w", err)
	}
	return b, nil
}
