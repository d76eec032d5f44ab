package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/vault"
)

func newImportCommand(e *env) *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use: "import [FILE|-]", Short: "Take a login into the vault", Args: atMost(1),
		Long: `Take the login of a .credentials.json into the vault, as a new account or as the next login of one that exists.
FILE is ~/.claude/.credentials.json when it is not given, and - is standard input.

From then on two places hold the same refresh token, and the first refresh by either kills the other's copy. Stop
using the file, and refresh once: claudefs refresh --account NAME --force.`,
		Example: `  claudefs import --account work ~/.claude/.credentials.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := vault.ParseAccountID(account); err != nil {
				return usageError{err}
			}
			b, err := e.readCredentialFile(args)
			if err != nil {
				return err
			}
			defer clear(b)
			if err := checkBeforeSending(b); err != nil {
				return err
			}
			return e.withLogins(cmd.Context(), true, func(l logins) error {
				i, err := l.Import(cmd.Context(), account, b)
				if err != nil {
					return err
				}
				fmt.Fprintf(e.Stdout, "claudefs: account %s: login imported, expires %s\n", i.Name, in(i.ExpiresAt))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "default", "`name` of the account")
	return cmd
}

// checkBeforeSending gives the file's own error before a vault is made or a daemon asked.
func checkBeforeSending(b []byte) error {
	f, err := credfile.Parse(b)
	if err == nil {
		err = f.CheckLogin()
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

func (e *env) readCredentialFile(args []string) ([]byte, error) {
	var r io.Reader = e.Stdin
	if len(args) == 0 || args[0] != "-" {
		path := ""
		if len(args) == 1 {
			path = args[0]
		} else {
			home, err := os.UserHomeDir()
			if err != nil {
				return nil, fmt.Errorf("import: %w", err)
			}
			path = home + "/.claude/.credentials.json"
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, credfile.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), nil
}

func newAccountCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "account", Short: "List, show and remove accounts, set API keys", RunE: needsSubcommand}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List the accounts in the vault", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.withLogins(cmd.Context(), false, func(l logins) error {
				all, err := l.List(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(e.Stdout, accountList{1, all})
				}
				return printAccounts(e.Stdout, all)
			})
		},
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show one account", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withLogins(cmd.Context(), false, func(l logins) error {
				i, err := l.Show(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(e.Stdout, accountList{1, []accounts.Info{i}})
				}
				return printAccount(e.Stdout, i)
			})
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Remove an account from the vault", Args: exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.withLogins(cmd.Context(), false, func(l logins) error { return l.Remove(cmd.Context(), args[0]) })
		},
	}
	for _, c := range []*cobra.Command{list, show} {
		c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	}
	cmd.AddCommand(list, show, remove, newSetKeyCommand(e))
	return cmd
}

// accountList is the JSON output of account list and show.
type accountList struct {
	SchemaVersion int             `json:"schemaVersion"`
	Accounts      []accounts.Info `json:"accounts"`
}

func printAccount(w io.Writer, i accounts.Info) error {
	return printTable(w, [][]string{
		{"account", i.Name},
		{"kind", cmp.Or(i.Kind, "login")},
		{"state", i.State},
		{"expires", in(i.ExpiresAt)},
		{"rotated", in(i.RotatedAt)},
		{"generation", fmt.Sprint(i.Generation)},
		{"refreshable", fmt.Sprint(i.Refreshable)},
		{"scopes", orDash(strings.Join(i.Scopes, " "))},
		{"subscription", orDash(i.SubscriptionType)},
		{"rate limit tier", orDash(i.RateLimitTier)},
		{"token fingerprint", orDash(i.Token)},
		{"note", orDash(i.Why)},
	})
}

func newRefreshCommand(e *env) *cobra.Command {
	var account string
	var force bool
	cmd := &cobra.Command{
		Use: "refresh", Short: "Renew an account's access token", Args: exactly(0),
		Long: `Renew an account's access token if that is due; with --force at once. Containers see the new token at their next
read. A rotation may revoke the old token immediately.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.withLogins(cmd.Context(), false, func(l logins) error {
				i, err := l.Refresh(cmd.Context(), account, force)
				if err != nil {
					return err
				}
				fmt.Fprintf(e.Stdout, "claudefs: account %s: generation %d, expires %s\n", i.Name, i.Generation, in(i.ExpiresAt))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "default", "`name` of the account")
	cmd.Flags().BoolVar(&force, "force", false, "renew now, whether due or not")
	return cmd
}
