// Command claudefs serves Claude Code credentials to containers through a file system.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e := &env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv}
	cmd := newRootCommand(e)
	cmd.SetArgs(os.Args[1:])
	err := cmd.ExecuteContext(ctx)
	printError(e.Stderr, err)
	return exitCode(err)
}
