// Command authserver is a real OAuth 2.0 authorization server for the tests of
// claudefs. ory/fosite, the engine of Ory Hydra, does the protocol work:
// authorization code with PKCE, rotation of refresh tokens, reuse detection,
// introspection and revocation. This program only wires it to HTTP, so a test
// of the refresh engine meets the behaviour of a server nobody here wrote.
//
// It prints one JSON line with its addresses when it is ready, and ends on
// SIGTERM, on an interrupt, or when its standard input closes: a test that dies
// leaves no server behind.
//
// Where it differs from the server behind Claude Code: error descriptions and
// token prefixes are fosite's, a response carries no account or organization,
// and a narrower scope in a refresh is ignored.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// shutdownTimeout bounds the wait for requests in flight at the end.
const shutdownTimeout = 2 * time.Second

// stdio is what the program reads and writes, so that tests can run it in process.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr}); err != nil {
		fmt.Fprintln(os.Stderr, "authserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends or std.in is closed.
func run(ctx context.Context, args []string, std stdio) error {
	cfg := config{}
	flags := flag.NewFlagSet("authserver", flag.ContinueOnError)
	flags.SetOutput(std.err)
	listen := flags.String("listen", "127.0.0.1:0", "loopback `address` to listen on")
	flags.DurationVar(&cfg.lifetime, "lifetime", 30*time.Second, "lifetime of an access token (whole seconds)")
	flags.DurationVar(&cfg.grace, "grace", 0, "how long a used refresh token may be sent again")
	flags.StringVar(&cfg.redirectURI, "redirect", "", "one more redirect `URI` the client may use")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	listener, err := listenLoopback(ctx, *listen)
	if err != nil {
		return err
	}
	cfg.baseURL = "http://" + listener.Addr().String()
	srv, err := newServer(cfg)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, std.in)
		cancel()
	}()
	if err := json.NewEncoder(std.out).Encode(srv.endpoints()); err != nil {
		return errors.Join(fmt.Errorf("print endpoints: %w", err), listener.Close())
	}
	return serve(ctx, listener, srv.handler())
}

// listenLoopback refuses any other address: the admin endpoints hand out
// tokens to whoever asks.
func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("parse -listen: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: not a loopback address", address)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// serve answers requests until ctx ends, then lets those in flight finish.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		return srv.Close()
	}
	return nil
}
