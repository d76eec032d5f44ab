package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/daemon"
	"github.com/claudefs/claudefs/internal/fdstore"
	"github.com/claudefs/claudefs/internal/version"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/vault"
)

// mountOptions are the flags of mount.
type mountOptions struct {
	policy  string
	account string
	vault   string
	daemon  bool
	keeper  string
}

func newMountCommand(e *env) *cobra.Command {
	o := &mountOptions{}
	cmd := &cobra.Command{
		Use: "mount [MOUNTPOINT]", Short: "Mount and serve the trees",
		Long: `Mount and serve the trees, in the foreground, until SIGINT or SIGTERM. One line on standard output says that the
mount answers. The mountpoint is /run/claudefs/mnt for root, $XDG_RUNTIME_DIR/claudefs/mnt otherwise.

The process that you start is a small keeper. It holds the mount and starts the server, and starts it again when it
dies, while containers wait for some milliseconds. SIGHUP has the server read its configuration and policy again;
"claudefs upgrade" replaces its program. As a service of systemd (--keeper systemd), systemd's descriptor store is the
keeper.

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
	f.StringVar(&o.keeper, "keeper", "auto", "what holds the mount while the server is replaced: `auto|own|systemd|none`")
	f.BoolVar(&o.daemon, "daemon", false, "return as soon as the mount answers, and go on in the background")
	return cmd
}

func runMount(cmd *cobra.Command, e *env, o *mountOptions, args []string) error {
	if o.daemon {
		c, err := e.config()
		if err != nil {
			return err
		}
		return background(cmd.Context(), e, c.RuntimeDir)
	}
	store, err := o.store(e)
	if err != nil {
		return err
	}
	if store == nil {
		return runKeeper(cmd.Context(), e, nil, os.Args[1:])
	}
	opt, err := o.options(e, args, store.Has(fdstore.Device))
	if err == nil {
		opt.Store, opt.LastEnd = store, e.Getenv(fdstore.EndVar)
		err = serveMount(cmd.Context(), e, opt)
	}
	if err != nil {
		_ = store.Notify("STATUS=" + strings.ReplaceAll(err.Error(), "\n", "; ")) // what the keeper, or systemd, shows of a server that does not come up
	}
	return err
}

// store finds what holds the mount: nil when this process is to become the keeper itself.
func (o *mountOptions) store(e *env) (*fdstore.Store, error) {
	held, err := fdstore.Inherited(e.Getenv, os.Unsetenv)
	if err != nil {
		return nil, err
	}
	notify := e.Getenv("NOTIFY_SOCKET")
	_, isServer := held["keeper"]
	switch {
	case isServer, e.Getenv(daemon.ProveVar) != "":
		return fdstore.New(held, ""), nil
	case o.keeper == "none":
		return fdstore.New(held, ""), nil
	case o.keeper == "systemd" && notify == "":
		return nil, usageError{errors.New("--keeper systemd: this is no service of systemd's (NOTIFY_SOCKET is not set)")}
	case o.keeper == "systemd":
		return fdstore.New(held, notify), os.Unsetenv("NOTIFY_SOCKET")
	case o.keeper == "own", o.keeper == "auto":
		return nil, nil
	}
	return nil, usageError{fmt.Errorf("--keeper %q: want auto, own, systemd or none", o.keeper)}
}

// serveMount runs a daemon, and becomes the next one after a hand-over.
func serveMount(ctx context.Context, e *env, opt *daemon.Options) error {
	opt.Args, opt.Stderr = os.Args[1:], os.Stderr
	if e.Getenv(daemon.ProveVar) != "" {
		if err := daemon.Prove(ctx, *opt); err != nil {
			return err
		}
		fmt.Fprintln(e.Stdout, daemon.Proven+version.Version)
		return nil
	}
	opt.Ready = func(notice string, tookOver bool) {
		if notice != "" {
			fmt.Fprintf(e.Stderr, "claudefs: notice: %s\n", notice)
		}
		if tookOver {
			return
		}
		fmt.Fprintf(e.Stdout, "claudefs: ready: %s (policy %s)\n", opt.Mountpoint, opt.PolicyName)
		readyToParent()
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	opt.Reload = reload
	d, err := daemon.New(*opt)
	if err != nil {
		return err
	}
	err = d.Run(ctx)
	if next := d.Next(); next != "" {
		return errors.Join(err, become(next, opt.Store))
	}
	return err
}

// options turns flags and configuration into what the daemon needs. follows says that another server had the mount: the
// policy that was in force then is better than none.
func (o *mountOptions) options(e *env, args []string, follows bool) (*daemon.Options, error) {
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
	p, policyErr := policy.Load(o.policy)
	if policyErr != nil && follows {
		p, err = policy.Load(filepath.Join(c.RuntimeDir, daemon.InForce))
	}
	if p == nil || err != nil {
		return nil, policyErr
	}
	opt := &daemon.Options{
		Config: c, Mountpoint: c.Mountpoint(), PolicyName: o.policy, Policy: p, PolicyErr: policyErr, Account: "default",
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
