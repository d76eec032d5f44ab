package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/version"
)

func newVersionCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return printJSON(e.Stdout, map[string]any{
					"schemaVersion": 1, "version": version.Version,
					"revision": version.Revision(), "go": runtime.Version(),
				})
			}
			fmt.Fprintf(e.Stdout, "claudefs %s %s (%s)\n", version.Version, version.Revision(), runtime.Version())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
