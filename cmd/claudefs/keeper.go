package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/daemon"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/keeper"
)

// newKeeperCommand is what a server runs whose keeper has died.
func newKeeperCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: daemon.KeeperCommand + " PID -- ARGUMENTS", Hidden: true, Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pid, err := strconv.Atoi(args[0])
			if err != nil {
				return usageError{fmt.Errorf("keeper: %q is no process id", args[0])}
			}
			held, err := fdstore.Inherited(e.Getenv, os.Unsetenv)
			if err != nil {
				return err
			}
			socket, ok := held["server"]
			if !ok {
				return usageError{errors.New("keeper: is started by a server, not by hand")}
			}
			delete(held, "server")
			return runKeeper(cmd.Context(), e, &keeper.Adopted{PID: pid, Socket: socket, Held: held}, args[1:])
		},
	}
}

// runKeeper holds the mount in this process and runs the server in another, with the same command line.
func runKeeper(ctx context.Context, e *env, adopted *keeper.Adopted, args []string) error {
	log, err := e.logger()
	if err != nil {
		return err
	}
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	k, err := keeper.New(keeper.Config{
		Args: args, Env: serverEnvironment(), Exe: exe, Adopt: adopted, Log: log,
		Stdin: e.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Ready: func() {
			_, _ = sdnotify.SdNotify(false, sdnotify.SdNotifyReady)
			readyToParent()
		},
	})
	if err != nil {
		return err
	}
	code, err := k.Run(ctx, reload)
	if err == nil && code != 0 {
		return childError{code}
	}
	return err
}

// serverEnvironment is the environment without what is the keeper's alone.
func serverEnvironment() []string {
	var out []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", backgroundVar, fdstore.Var, fdstore.EndVar:
			continue
		}
		out = append(out, kv)
	}
	return out
}

// become makes this process the next server: same process id, same descriptors. If the program is gone by now, the
// present one follows itself.
func become(program string, store *fdstore.Store) error {
	env, err := store.Environment()
	if err != nil {
		return err
	}
	env = append(serverEnvironment(), env...)
	err = syscall.Exec(program, os.Args, env)
	return errors.Join(fmt.Errorf("run %s: %w", program, err), syscall.Exec("/proc/self/exe", os.Args, env))
}
