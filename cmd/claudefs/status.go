package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/accounts"
	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/keeper"
)

func newStatusCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the daemon, its accounts and trees", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, c, err := e.daemon()
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if errors.Is(err, control.ErrNoDaemon) {
				return statusWithoutServer(c.RuntimeDir, err)
			}
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
	if s.InForce.Error != "" {
		first, _, _ := strings.Cut(s.InForce.Error, "\n")
		fmt.Fprintf(w, "policy   NOT AS IN THE FILE: %s; that of %s goes on (claudefs policy check)\n", first, in(s.InForce.ReadAt))
	}
	fmt.Fprintf(w, "keeper   %s\n", keeperText(&s.Keeper))
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

// statusWithoutServer says what a keeper knows of a server that does not come up.
func statusWithoutServer(runtimeDir string, noDaemon error) error {
	k, err := keeper.ReadStatus(runtimeDir)
	if err != nil || !k.Alive() {
		return noDaemon // no keeper either
	}
	text := "requests wait"
	if k.State == keeper.Failing {
		text = "requests are answered with EIO"
	}
	why := k.LastEnd
	if k.Message != "" {
		why += ": " + k.Message
	}
	return fmt.Errorf("%w: keeper %d holds the mount and starts one again and again, %s (%d starts, the last ended with %s)",
		errFailing, k.PID, text, k.Restarts, why)
}

// errFailing: there is a mount and a keeper, but no server comes up.
var errFailing = fmt.Errorf("%w", control.ErrNoDaemon)

// keeperText says what happens when the server ends.
func keeperText(k *control.KeeperStatus) string {
	var text string
	switch k.Holder {
	case "none":
		return "none: the mount ends with the daemon"
	case "systemd":
		text = "systemd's descriptor store"
	default:
		text = fmt.Sprintf("process %d", k.PID)
	}
	if k.Restarts > 0 {
		text += fmt.Sprintf(", started the daemon %d times again, last %s ago after %s", k.Restarts,
			time.Since(k.LastEndAt).Round(time.Second), k.LastEnd)
	}
	if k.HandOverError != "" {
		text += fmt.Sprintf("; hand-over of %s refused: %s", k.HandOverAt.Local().Format(time.TimeOnly), k.HandOverError)
	}
	return text
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
		if n := notShown(t); n != "" {
			outcome = strings.TrimPrefix(outcome+"; not shown: "+n, "; ")
		}
		rows = append(rows, []string{t.Name, orDash(t.Account), in(t.LastRead), orDash(container), orDash(outcome)})
	}
	return printTable(w, rows)
}

// notShown lists what the settings firewall keeps from a tree's readers. It says nothing of who wrote it: any program in
// the container may have.
func notShown(t broker.TreeStatus) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(t.NotShown)) {
		for _, r := range t.NotShown[name] {
			out = append(out, name+" "+r.Path)
		}
	}
	const most = 3
	if more := len(out) - most; more > 0 {
		out = append(out[:most], fmt.Sprintf("%d more (--json)", more))
	}
	return strings.Join(out, ", ")
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
