package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/policy"
)

// testReport is the output of "claudefs policy test --json".
type testReport struct {
	SchemaVersion int             `json:"schemaVersion"`
	Ok            bool            `json:"ok"`
	Tests         []policy.Result `json:"tests"`
}

func newPolicyTestCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test POLICY [TESTS...]", Short: "Ask a policy its tests; needs no daemon", Args: atLeast(1),
		Long: `Ask a policy the questions under its own "tests" and in files beside it, and compare the answers. The exit code is 1
when one differs. A policy whose own tests fail is not put in force.`,
		Example: `  claudefs policy test policy.yaml
  claudefs policy test project project-tests.yaml --json`,
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := runPolicyTests(args[0], args[1:])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(e.Stdout, r)
			} else {
				err = printTests(e, r)
			}
			if err == nil && !r.Ok {
				return errTestsFailed
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

var errTestsFailed = errors.New("test policy: it does not answer as its tests want")

func runPolicyTests(name string, beside []string) (*testReport, error) {
	text, err := policy.Text(name)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(name, text)
	if err != nil {
		return nil, err
	}
	all := p.Tests
	for _, file := range beside {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read tests: %w", err)
		}
		tests, err := policy.ParseTests(file, b)
		if err != nil {
			return nil, err
		}
		all = append(all, tests...)
	}
	if len(all) == 0 {
		return nil, usageError{fmt.Errorf("test policy: %s has no tests; add some, or name a file of them", name)}
	}
	r := &testReport{SchemaVersion: 1, Ok: true}
	for i := range all {
		got := all[i].Run(p)
		r.Ok = r.Ok && got.Ok
		r.Tests = append(r.Tests, got)
	}
	return r, nil
}

func printTests(e *env, r *testReport) error {
	rows := [][]string{{"", "TEST", "RULE", "PROBLEM", "REASON"}}
	for _, t := range r.Tests {
		word := "ok"
		if !t.Ok {
			word = "FAIL"
		}
		rows = append(rows, []string{word, t.Name, orDash(t.Rule), orDash(t.Problem), t.Reason})
	}
	return printTable(e.Stdout, rows)
}
