package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

// explainOptions are the flags of policy explain.
type explainOptions struct {
	question       control.Question
	inspect, image string // saved answers of a runtime
	policy         string
	uid            uint32
	json           bool
}

func newPolicyExplainCommand(e *env) *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use: "explain TREE", Short: "Say what a container or process may read of a tree, and why", Args: exactly(1),
		Long: `Say which rule decides whether a container or process may read a tree's credential, why each rule before it does not
match, and what the reader would get. Nothing is changed or recorded by asking.

With --container or --pid the running daemon is asked, about its policy and what the kernel and the runtime say now. With
--inspect no daemon is needed: the file is what "docker inspect" or "podman inspect" printed, and --policy names the
policy. Labels that came with the image can then be told from the operator's only with --image.`,
		Example: `  claudefs policy explain --container web web
  claudefs policy explain --pid 4711 web
  docker inspect web >web.json
  claudefs policy explain --inspect web.json --policy policy.yaml web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.question.Tree = args[0]
			x, err := o.explain(cmd, e)
			if err != nil {
				return err
			}
			if o.json {
				return printJSON(e.Stdout, x)
			}
			return printExplanation(e.Stdout, x)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.question.Container, "container", "", "a running container's `NAME|ID`")
	f.Uint32Var(&o.question.PID, "pid", 0, "a running process's `PID`")
	f.StringVar(&o.inspect, "inspect", "", "`FILE` with what docker inspect or podman inspect printed")
	f.StringVar(&o.image, "image", "", "`FILE` with what image inspect printed of its image")
	f.StringVar(&o.policy, "policy", "", "`shared|project|isolated|FILE`, with --inspect")
	f.Uint32Var(&o.uid, "uid", 0, "the reader's `UID` as the host counts it, with --inspect")
	f.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

// check says what is wrong with the command line.
func (o *explainOptions) check() error {
	asked := 0
	for _, given := range []bool{o.question.Container != "", o.question.PID != 0, o.inspect != ""} {
		if given {
			asked++
		}
	}
	switch {
	case !policy.ValidTree(o.question.Tree):
		return fmt.Errorf("tree %q: want a tree's name", o.question.Tree)
	case asked != 1:
		return errors.New("whom to ask about: want one of --container, --pid and --inspect")
	case (o.inspect != "") != (o.policy != ""):
		return errors.New("--inspect and --policy go together; a running daemon has a policy of its own")
	}
	return nil
}

func (o *explainOptions) explain(cmd *cobra.Command, e *env) (*broker.Explanation, error) {
	if err := o.check(); err != nil {
		return nil, usageError{err}
	}
	if o.inspect != "" {
		return o.offline()
	}
	client, _, err := e.daemon()
	if err != nil {
		return nil, err
	}
	return client.Explain(cmd.Context(), o.question)
}

// offline asks a policy about a saved answer of a runtime.
func (o *explainOptions) offline() (*broker.Explanation, error) {
	p, err := policy.Load(o.policy)
	if err != nil {
		return nil, err
	}
	saved, err := os.ReadFile(o.inspect)
	if err != nil {
		return nil, fmt.Errorf("read inspect output: %w", err)
	}
	var image []byte
	if o.image != "" {
		if image, err = os.ReadFile(o.image); err != nil {
			return nil, fmt.Errorf("read image inspect output: %w", err)
		}
	}
	known, err := container.FromInspect(saved, image)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.inspect, err)
	}
	f := known.Facts
	s := &identity.Subject{Caller: identity.Caller{UID: o.uid}, Container: f.ID, Runtime: f.Runtime}
	x := &broker.Explanation{SchemaVersion: 1, Tree: o.question.Tree}
	x.Caller.Describe(s, f)
	x.Judge(p, policy.Request{Tree: o.question.Tree, Subject: s, Facts: f, Started: f.Start})
	if known.LabelsUnproven {
		x.Notes = append(x.Notes, "labels that came with the image are taken for the operator's; give --image to tell them apart")
	}
	x.Notes = append(x.Notes, "from a saved answer: whether the container holds the tree, and the account's state, are not looked at")
	return x, nil
}

func printExplanation(w io.Writer, x *broker.Explanation) error {
	c := &x.Caller
	switch {
	case c.Host:
		fmt.Fprintf(w, "process  %d on the host, uid %d, %s\n", c.PID, c.UID, orDash(c.Exe))
	case c.Container != "":
		fmt.Fprintf(w, "container %s (%.12s), image %s, %s, uid %d\n", orDash(c.Name), c.Container, orDash(c.Image), orDash(c.Runtime), c.UID)
	}
	if len(c.Powers) > 0 {
		fmt.Fprintf(w, "powers   %s\n", strings.Join(c.Powers, ", "))
	}
	var rows [][]string
	for _, s := range x.Rules {
		word := "no match"
		if s.Decides {
			word = "DECIDES"
		}
		rows = append(rows, []string{"rule", s.Rule, word, s.Why})
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	if !x.Allowed {
		fmt.Fprintf(w, "DENIED   %s\n", x.Reason)
	} else {
		fmt.Fprintf(w, "ALLOWED  %s: level %s, account %s, login %s", x.Reason, x.Level, orDash(x.Account), x.Login)
		if !x.ExpiresAt.IsZero() {
			fmt.Fprintf(w, ", token ends %s", in(x.ExpiresAt))
		}
		fmt.Fprintf(w, "\nsettings %s, base URLs that the tree may set: %s\n", x.Settings, orDash(strings.Join(x.Endpoints, ", ")))
	}
	for _, n := range x.Notes {
		fmt.Fprintf(w, "note     %s\n", n)
	}
	return nil
}
