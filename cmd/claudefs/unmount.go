package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/keeper"
)

// stopTimeout bounds how long unmount waits for the daemon to end.
const stopTimeout = 10 * time.Second

func newUnmountCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "unmount [MOUNTPOINT]", Short: "Unmount and end the daemon", Args: atMost(1),
		Long: `Unmount and end the daemon in order. Containers that still bind a tree lose it. Without a daemon, a mount that a
dead one left is taken away, and a keeper for which no server comes up is ended.`,
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
				return errors.Join(fs.Unmount(mountpoint), endKeeper(c.RuntimeDir, st))
			}
			if err := client.Stop(cmd.Context()); err != nil {
				return err
			}
			return awaitEnd(cmd.Context(), client, mountpoint)
		},
	}
}

// endKeeper ends a keeper for which no server comes up. There is none when a server answers.
func endKeeper(runtimeDir string, st *control.Status) error {
	k, err := keeper.ReadStatus(runtimeDir)
	if err != nil || st != nil {
		return nil
	}
	fd, err := unix.PidfdOpen(k.PID, 0)
	if err != nil || !k.Alive() { // gone, or another process by now
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil {
		return fmt.Errorf("end keeper %d: %w", k.PID, err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(stopTimeout.Milliseconds())); n == 0 || err != nil {
		return errors.Join(fmt.Errorf("unmount: keeper %d did not end within %v", k.PID, stopTimeout), err)
	}
	return nil
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
