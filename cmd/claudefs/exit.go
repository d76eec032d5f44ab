package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/claudefs/claudefs/fs"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/credfile"
	"github.com/claudefs/claudefs/internal/daemon"
	"github.com/claudefs/claudefs/internal/guarded"
	"github.com/claudefs/claudefs/policy"
	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/vault"
)

// usageError is a mistake in the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// outcome is how an error ends the program: its exit code and one next command.
type outcome struct {
	is   error
	code int
	hint string
}

// outcomes is searched in order; what is in none of them is exit code 1 without a hint.
var outcomes = []outcome{
	{context.Canceled, 130, ""},
	{policy.ErrDenied, 3, "claudefs audit"},
	{guarded.ErrExposed, 1, "correct what the message says, then claudefs doctor"},
	{policy.ErrSyntax, 1, "claudefs policy schema   (every key and its values; docs/policy.md explains them)"},
	{vault.ErrPassphrase, 5, "claudefs vault unlock"},
	{vault.ErrLocked, 5, "claudefs vault unlock"},
	{refresh.ErrLoginRequired, 4, "claudefs import --account NAME FILE   (with a fresh login)"},
	{refresh.ErrStatic, 1, "claudefs account list"},
	{fs.ErrMounted, 6, "claudefs status"},
	{fs.ErrNotMounted, 6, "claudefs status"},
	{fs.ErrMountpoint, 6, "claudefs doctor"},
	{errFailing, 7, "correct what the message says; the keeper then goes on by itself"},
	{control.ErrNoDaemon, 7, "claudefs mount"},
	{daemon.ErrRunning, 6, "claudefs status"},
	{control.ErrNotProven, 1, "claudefs doctor"},
	{control.ErrNoHandOver, 1, "claudefs unmount, then claudefs mount"},
	{vault.ErrNotFound, 1, "claudefs account list"},
	{vault.ErrNoVault, 1, "claudefs import --account NAME FILE"},
	{vault.ErrTimeout, 5, "claudefs doctor"},
	{vault.ErrUnavailable, 5, "claudefs doctor"},
	{credfile.ErrSyntax, 1, "claude auth login   (writes a good file), then claudefs import FILE"},
}

func find(err error) outcome {
	var u usageError
	if errors.As(err, &u) || isUnknownCommand(err) {
		return outcome{code: 2, hint: "claudefs --help"}
	}
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			return o
		}
	}
	return outcome{code: 1}
}

// isUnknownCommand recognises cobra's own error for a mistyped command, which has no type.
func isUnknownCommand(err error) bool {
	return strings.HasPrefix(err.Error(), "unknown command ")
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	var child childError
	if errors.As(err, &child) {
		return child.code
	}
	return find(err).code
}

// printError writes the one error and the one next command.
func printError(w io.Writer, err error) {
	var child childError
	if err == nil || errors.As(err, &child) { // the child has said what there is to say
		return
	}
	fmt.Fprintf(w, "claudefs: error: %v\n", err)
	if o := find(err); o.hint != "" {
		fmt.Fprintf(w, "claudefs: hint: %s\n", o.hint)
	}
}
