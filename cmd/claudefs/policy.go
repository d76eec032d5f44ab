package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/policy"
)

func newPolicyCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Show and check policies", RunE: needsSubcommand}
	show := &cobra.Command{
		Use: "show [NAME]", Short: "Print an embedded policy, to start a file from", Args: atMost(1),
		ValidArgs: policy.BuiltinNames,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				fmt.Fprintln(e.Stdout, strings.Join(policy.BuiltinNames, "\n"))
				return nil
			}
			b, ok := policy.Builtin(args[0])
			if !ok {
				return usageError{fmt.Errorf("policy %q: want %s", args[0], strings.Join(policy.BuiltinNames, ", "))}
			}
			_, err := e.Stdout.Write(b)
			return err
		},
	}
	check := &cobra.Command{
		Use: "check FILE", Short: "Check a policy file; needs no daemon", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := policy.Load(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "%s: %d rules, ok\n", args[0], len(p.Rules))
			return nil
		},
	}
	schema := &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of policy files, for editors", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := e.Stdout.Write(policy.Schema)
			return err
		},
	}
	cmd.AddCommand(show, check, schema, newPolicyReloadCommand(e), newPolicyTestCommand(e), newPolicyExplainCommand(e))
	return cmd
}

func newPolicyReloadCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Have the daemon read its policy again", Args: exactly(0),
		Long: `Have the daemon read its policy again. It does so by itself when the file changes. The new policy holds from the next
read on, in containers that run too. A bad file changes nothing: the exit code is 1, and "claudefs status" says so.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := e.daemon()
			if err != nil {
				return err
			}
			s, err := c.ReloadPolicy(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "claudefs: policy is in force: %d rules\n", s.Rules)
			return nil
		},
	}
}
