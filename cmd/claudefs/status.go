package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/control"
)

func newStatusCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the daemon, its accounts and trees", Args: exactly(0),
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
				return printJSON(e.Stdout, s)
			}
			return printStatus(e.Stdout, s)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(w io.Writer, s *control.Status) error {
	lock := "open"
	if s.Vault.Locked {
		lock = "LOCKED (claudefs vault unlock)"
	}
	fmt.Fprintf(w, "daemon   %d, version %s, up %v\n", s.PID, s.Version, time.Since(s.Since).Round(time.Second))
	fmt.Fprintf(w, "mount    %s, policy %s\n", s.Mountpoint, s.Policy)
	fmt.Fprintf(w, "vault    %s, key in %s\n", lock, strings.Join(s.Vault.Backends, ", "))
	for _, r := range s.Runtimes {
		state := "API " + r.API
		if r.Error != "" {
			state = "DOWN: " + r.Error
		}
		fmt.Fprintf(w, "runtime  %s, %s\n", r.Socket, state)
	}
	fmt.Fprintln(w)
	if err := printAccounts(w, s.Accounts); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return printTrees(w, s.Trees)
}

func printTrees(w io.Writer, trees []broker.TreeStatus) error {
	rows := [][]string{{"TREE", "ACCOUNT", "LAST READ", "CONTAINER", "OUTCOME"}}
	for _, t := range trees {
		container := t.ContainerName
		if container == "" {
			container = fmt.Sprintf("%.12s", t.Container)
		}
		outcome := t.Outcome
		if t.LoggedOut {
			outcome = "logged out by its client; " + outcome
		}
		if t.Hint != "" {
			outcome = strings.TrimSuffix(t.Hint+"; "+outcome, "; ")
		}
		rows = append(rows, []string{t.Name, orDash(t.Account), in(t.LastRead), orDash(container), orDash(outcome)})
	}
	return printTable(w, rows)
}

func printAccounts(w io.Writer, list []accounts.Info) error {
	rows := [][]string{{"ACCOUNT", "STATE", "EXPIRES", "ROTATED", "GENERATION", "PLAN", "NOTE"}}
	for _, a := range list {
		note := a.Why
		switch {
		case a.State == "dead":
			note += "; claudefs import --account " + a.Name + " FILE"
		case !a.RetryAt.IsZero():
			note += "; next try " + in(a.RetryAt)
		case a.InDoubt:
			note = "a grant's end is not known yet"
		case !a.Refreshable && a.State == "valid":
			note = "static token, is not renewed"
		}
		rows = append(rows, []string{a.Name, a.State, in(a.ExpiresAt), in(a.RotatedAt), fmt.Sprint(a.Generation), orDash(a.SubscriptionType), orDash(note)})
	}
	return printTable(w, rows)
}
