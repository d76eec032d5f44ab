package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/broker"
)

// treeList is the JSON output of tree list.
type treeList struct {
	SchemaVersion int                 `json:"schemaVersion"`
	Trees         []broker.TreeStatus `json:"trees"`
}

func newTreeCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{Use: "tree", Short: "List and reset trees", RunE: needsSubcommand}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List the trees that have state, and who read them last", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := e.daemon()
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.Stdout, treeList{1, s.Trees})
			}
			return printTrees(e.Stdout, s.Trees)
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	reset := &cobra.Command{
		Use: "reset TREE", Short: "Forget what a tree's clients did to their credential file", Args: exactly(1),
		Long: `Forget what a tree's clients did to their credential file: a logout, a login made inside, what they kept beside it;
and which account and container the tree belongs to. State files and accounts stay.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := e.daemon()
			if err != nil {
				return err
			}
			return client.ResetTree(cmd.Context(), args[0])
		},
	}
	cmd.AddCommand(list, reset, newTreeApproveCommand(e))
	return cmd
}

func newTreeApproveCommand(e *env) *cobra.Command {
	var reader string
	cmd := &cobra.Command{
		Use: "approve TREE", Short: "Let containers read that wait for an approval", Args: exactly(1),
		Long: `Let containers read a tree's credential that wait for it: their rule has "approval: first-read". An approval lasts as
long as the container runs; one that is started again has to be approved again. "claudefs tree list" shows who waits.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, _, err := e.daemon()
			if err != nil {
				return err
			}
			approved, err := client.Approve(cmd.Context(), args[0], reader)
			if err != nil {
				return err
			}
			for _, w := range approved {
				fmt.Fprintf(e.Stdout, "claudefs: tree %s: %s may read\n", args[0], strings.TrimSpace(w.Name+" "+w.Reader))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&reader, "container", "", "only the one of this `NAME|ID`")
	return cmd
}
