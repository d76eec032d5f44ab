package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/daemon"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// mountOptions are the flags of mount.
type mountOptions struct {
	policy  string
	account string
	vault   string
	daemon  bool
}

func newMountCommand(e *env) *cobra.Command {
	o := &mountOptions{}
	cmd := &cobra.Command{
		Use: "mount [MOUNTPOINT]", Short: "Mount and serve the trees",
		Long: `Mount and serve the trees, in the foreground, until SIGINT or SIGTERM. One line on standard output says that the
mount answers. The mountpoint is /run/claudefs/mnt for root, $XDG_RUNTIME_DIR/claudefs/mnt otherwise.

Policies: shared, project, isolated, or a file (claudefs policy show NAME prints one to start from).`,
		Example: `  claudefs mount --policy isolated
  docker run $(claudefs docker-args web) IMAGE`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runMount(cmd, e, o, args) },
	}
	f := cmd.Flags()
	f.StringVar(&o.policy, "policy", "isolated", "`shared|project|isolated|FILE`")
	f.StringVar(&o.account, "account", "", "`name` of the account of shared trees (default \"default\"), and of others without their own")
	f.StringVar(&o.vault, "vault", "", "what protects a new vault: `auto|keyring|kernel|passphrase`")
	f.BoolVar(&o.daemon, "daemon", false, "return as soon as the mount answers, and go on in the background")
	return cmd
}

func runMount(cmd *cobra.Command, e *env, o *mountOptions, args []string) error {
	opt, err := o.options(e, args)
	if err != nil {
		return err
	}
	if o.daemon {
		return background(cmd.Context(), e, opt.Config.RuntimeDir)
	}
	opt.Ready = func(notice string) {
		if notice != "" {
			fmt.Fprintf(e.Stderr, "claudefs: notice: %s\n", notice)
		}
		fmt.Fprintf(e.Stdout, "claudefs: ready: %s (policy %s)\n", opt.Mountpoint, opt.PolicyName)
		readyToParent()
	}
	d, err := daemon.New(*opt)
	if err != nil {
		return err
	}
	return d.Run(cmd.Context())
}

// options turns flags and configuration into what the daemon needs.
func (o *mountOptions) options(e *env, args []string) (*daemon.Options, error) {
	c, err := e.config()
	if err != nil {
		return nil, err
	}
	if o.vault != "" {
		c.Vault.Backend = o.vault
		if err := c.Validate(); err != nil {
			return nil, usageError{err}
		}
	}
	log, err := e.logger()
	if err != nil {
		return nil, err
	}
	p, err := policy.Load(o.policy)
	if err != nil {
		return nil, err
	}
	opt := &daemon.Options{
		Config: c, Mountpoint: c.Mountpoint(), PolicyName: o.policy, Policy: p, Account: "default",
		Log: log, Passphrase: e.passphrase(c),
	}
	if len(args) == 1 {
		if opt.Mountpoint, err = filepath.Abs(args[0]); err != nil {
			return nil, fmt.Errorf("find mountpoint: %w", err)
		}
	}
	if o.account != "" {
		if opt.Account, err = vault.ParseAccountID(o.account); err != nil {
			return nil, usageError{err}
		}
		opt.AccountGiven = true
	}
	return opt, nil
}

// readyFD is the descriptor on which a background daemon tells its parent that the mount answers.
const readyFD = 3

// backgroundVar marks the daemon that background started.
const backgroundVar = "CLAUDEFS_BACKGROUND"

func readyToParent() {
	if os.Getenv(backgroundVar) == "" {
		return
	}
	f := os.NewFile(readyFD, "ready")
	_, _ = f.WriteString("ready\n")
	_ = f.Close()
}
