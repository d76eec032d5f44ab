package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/audit"
)

func newAuditCommand(e *env) *cobra.Command {
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use: "audit", Short: "Show what was disclosed to whom, and what was refused", Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := e.config()
			if err != nil {
				return err
			}
			return audit.Read(cmd.Context(), c.Audit.File, follow, func(ev audit.Event, line []byte) error {
				if asJSON {
					_, err := e.Stdout.Write(line)
					return err
				}
				_, err := fmt.Fprintln(e.Stdout, describe(ev))
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new records")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the records as they stand in the file, one JSON object a line")
	cmd.AddCommand(newAuditVerifyCommand(e))
	return cmd
}

// describe is a record on one line, for people.
func describe(ev audit.Event) string {
	who := "-"
	switch {
	case ev.Name != "":
		who = fmt.Sprintf("%s (%.12s)", ev.Name, ev.Container)
	case ev.Container != "":
		who = fmt.Sprintf("%.12s", ev.Container)
	case ev.UID != nil:
		who = fmt.Sprintf("host uid %d %q", *ev.UID, ev.Exe)
	}
	return fmt.Sprintf("%s  %-8s %-7s tree=%s account=%s token=%s by %s: %s", ev.Time.Local().Format("2006-01-02 15:04:05.000"),
		ev.Action, ev.Outcome, orDash(ev.Tree), orDash(ev.Account), orDash(ev.Token), who, orDash(ev.Reason))
}

func newAuditVerifyCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Check the log's hash chain", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			c, err := e.config()
			if err != nil {
				return err
			}
			f, err := os.Open(c.Audit.File)
			if err != nil {
				return fmt.Errorf("verify audit log: %w", err)
			}
			defer f.Close()
			n, damage, err := audit.Verify(f)
			if err != nil {
				return fmt.Errorf("verify audit log: %w", err)
			}
			for _, d := range damage {
				fmt.Fprintf(e.Stdout, "%s:%d: %s\n", c.Audit.File, d.Line, d.Reason)
			}
			if len(damage) > 0 {
				return fmt.Errorf("verify audit log: the chain is broken in %d places", len(damage))
			}
			fmt.Fprintf(e.Stdout, "%s: %d records, chain whole\n", c.Audit.File, n)
			return nil
		},
	}
}
