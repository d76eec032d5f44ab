package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/control"
)

func newUpgradeCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "upgrade [BINARY]", Short: "Replace the running server by another program, or by itself anew", Args: atMost(1),
		Long: `Replace the running server, without unmounting and without an error in any container: by BINARY, or by the program
of this very command. The new one first proves itself with the running one's arguments: it reads configuration and
policy, knows the formats of what it takes over, opens the vault and answers a request. If it cannot, nothing changes
and the exit code is 1. The same program reads configuration and policy again, as SIGHUP has it do.`,
		Example: "  claudefs upgrade /usr/local/bin/claudefs.new\n  claudefs upgrade        # after the package manager replaced the program",
		RunE: func(cmd *cobra.Command, args []string) error {
			binary, err := os.Executable()
			if len(args) == 1 {
				binary, err = filepath.Abs(args[0])
			}
			if err != nil {
				return fmt.Errorf("find program: %w", err)
			}
			client, _, err := e.daemon()
			if err != nil {
				return err
			}
			before, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := client.HandOver(cmd.Context(), binary); err != nil {
				return err
			}
			after, err := awaitNext(cmd.Context(), client, before.Keeper.Servers)
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "claudefs: version %s serves, in place of %s\n", after.Version, before.Version)
			return nil
		},
	}
}

// upgradeTimeout bounds the wait for the new server.
const upgradeTimeout = 30 * time.Second

// awaitNext waits until another server than the last one answers.
func awaitNext(ctx context.Context, client control.Client, servers uint64) (*control.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, upgradeTimeout)
	defer cancel()
	for {
		s, err := client.Status(ctx)
		if err == nil && s.Keeper.Servers > servers {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(errors.New("upgrade: the new server does not answer"), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
