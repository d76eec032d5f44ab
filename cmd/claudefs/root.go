package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const longHelp = `claudefs gives each container a ~/.claude of its own. The login stays on the host: a container reads an access
token that claudefs keeps fresh, rendered when the file is opened, for a caller that the kernel attests, as a
policy allows. The refresh token never leaves the daemon.

Exit codes: 0 ok, 1 error, 2 usage, 3 denied by policy, 4 login required, 5 vault locked, 6 mountpoint unusable,
7 no daemon, 130 interrupted. Each flag has an environment variable: --log-level is CLAUDEFS_LOG_LEVEL.`

func newRootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use: "claudefs", Short: "Serve Claude Code credentials to containers through a file system", Long: longHelp,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return flagsFromEnv(cmd, e) },
	}
	root.SetIn(e.Stdin)
	root.SetOut(e.Stdout)
	root.SetErr(e.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&e.configFile, "config", "", "configuration `file`")
	f.StringVar(&e.logFormat, "log-format", "text", "log as `text|json`")
	f.StringVar(&e.logLevel, "log-level", "info", "log `debug|info|warn|error`")
	root.AddGroup(&cobra.Group{ID: "serve", Title: "Serve:"}, &cobra.Group{ID: "logins", Title: "Logins:"},
		&cobra.Group{ID: "see", Title: "See and check:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("serve", newMountCommand(e), newUnmountCommand(e), newUpgradeCommand(e), newDockerArgsCommand(e))
	add("logins", newImportCommand(e), newAccountCommand(e), newRefreshCommand(e), newVaultCommand(e), newTreeCommand(e))
	add("see", newStatusCommand(e), newAuditCommand(e), newPolicyCommand(e), newDoctorCommand(e))
	root.AddCommand(newVersionCommand(e), newVaultHelperCommand(e), newKeeperCommand(e), newGenCommand())
	return root
}

// flagsFromEnv gives flags that were not set the value of their variable.
func flagsFromEnv(cmd *cobra.Command, e *env) error {
	var err error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		v := e.Getenv(envName(f.Name))
		if f.Changed || v == "" || f.Name == "help" || err != nil {
			return
		}
		if serr := cmd.Flags().Set(f.Name, v); serr != nil {
			err = usageError{fmt.Errorf("%s: %w", envName(f.Name), serr)}
		}
	})
	return err
}

func exactly(n int) cobra.PositionalArgs { return counted(cobra.ExactArgs(n)) }
func atLeast(n int) cobra.PositionalArgs { return counted(cobra.MinimumNArgs(n)) }
func atMost(n int) cobra.PositionalArgs  { return counted(cobra.MaximumNArgs(n)) }

// counted makes a usage error of a wrong number of arguments.
func counted(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// needsSubcommand is the body of a command that only groups others.
func needsSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{fmt.Errorf("%s: which one? See %s --help", cmd.CommandPath(), cmd.CommandPath())}
	}
	return usageError{fmt.Errorf("%s: unknown command %q", cmd.CommandPath(), args[0])}
}
