package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/policy"
)

func newDockerArgsCommand(e *env) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use: "docker-args TREE", Short: "Print the docker run arguments for a tree", Args: exactly(1),
		Long: `Print the docker run arguments for a tree. --mount refuses to start when claudefs is not mounted, where -v would
make a plain directory. CLAUDE_CONFIG_DIR keeps .claude.json inside the tree. Variables that would beat the
credential file are cleared.`,
		Example: `  docker run $(claudefs docker-args web) IMAGE`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !policy.ValidTree(args[0]) {
				return usageError{fmt.Errorf("tree name %q: want 1 to 63 letters, digits, '.', '_' or '-', starting with a letter or digit", args[0])}
			}
			client, c, err := e.daemon()
			if err != nil {
				return err
			}
			mountpoint := c.Mountpoint()
			s, err := client.Status(cmd.Context())
			switch {
			case err == nil:
				mountpoint = s.Mountpoint
			case !errors.Is(err, control.ErrNoDaemon):
				return err
			default:
				fmt.Fprintln(e.Stderr, "claudefs: notice: no daemon is running; these arguments will be refused by Docker until one is")
			}
			for _, path := range []string{mountpoint, target} {
				if !filepath.IsAbs(path) || strings.ContainsAny(path, " \t\n,\"'") {
					return usageError{fmt.Errorf("path %q: want an absolute path without spaces, commas and quotes", path)}
				}
			}
			fmt.Fprintf(e.Stdout, "--mount type=bind,src=%s,dst=%s --env CLAUDE_CONFIG_DIR=%s --env ANTHROPIC_API_KEY= --env ANTHROPIC_AUTH_TOKEN= --env CLAUDE_CODE_OAUTH_TOKEN=\n",
				filepath.Join(mountpoint, args[0]), target, target)
			return nil
		},
	}
	cmd.Flags().StringVar(&target, "target", "/root/.claude", "`directory` in the container")
	return cmd
}
