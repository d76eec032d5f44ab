package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/control"
)

// stopTimeout bounds how long unmount waits for the daemon to end.
const stopTimeout = 10 * time.Second

func newUnmountCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "unmount [MOUNTPOINT]", Short: "Unmount and end the daemon", Args: atMost(1),
		Long: `Unmount and end the daemon in order. Containers that still bind a tree lose it. Without a daemon, a mount that a
dead one left is taken away.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			client, c, err := e.daemon()
			if err != nil {
				return err
			}
			st, err := client.Status(cmd.Context())
			if err != nil && !errors.Is(err, control.ErrNoDaemon) {
				return err
			}
			mountpoint := c.Mountpoint()
			if err == nil {
				mountpoint = st.Mountpoint
			}
			if len(args) == 1 {
				if mountpoint, err = filepath.Abs(args[0]); err != nil {
					return fmt.Errorf("find mountpoint: %w", err)
				}
			}
			if st == nil || st.Mountpoint != mountpoint { // not this daemon's: a dead one's, or nothing of ours
				return fs.Unmount(mountpoint)
			}
			if err := client.Stop(cmd.Context()); err != nil {
				return err
			}
			return awaitEnd(cmd.Context(), client, mountpoint)
		},
	}
}

// awaitEnd waits until the daemon no longer answers and nothing is mounted.
func awaitEnd(ctx context.Context, client control.Client, mountpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for {
		_, err := client.Status(ctx)
		mounted, merr := mountinfo.Mounted(mountpoint)
		if errors.Is(err, control.ErrNoDaemon) && (merr != nil || !mounted) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("unmount: the daemon did not end within %v", stopTimeout)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
