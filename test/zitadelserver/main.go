// Command zitadelserver is a second real OAuth 2.0 authorization server for the
// tests of claudefs, beside authserver and with the same command line and
// answers. zitadel/oidc does the protocol work: authorization code with PKCE,
// the refresh grant, introspection, userinfo and revocation. Two libraries that
// share no code keep claudefs from fitting the habits of one.
//
// It prints one JSON line with its addresses when it is ready, and ends on
// SIGTERM, on an interrupt, or when its standard input closes: a test that dies
// leaves no server behind.
//
// Where it differs from authserver: a refresh token needs the scope
// offline_access, which a login therefore lists as a fourth; every token
// response carries an ID token; a narrower scope in a refresh narrows the login
// for good, a wider one is refused; a spent refresh token is refused, but the
// login lives on; and introspection knows access tokens only.
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
		fmt.Fprintln(os.Stderr, "zitadelserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends or std.in is closed.
func run(ctx context.Context, args []string, std stdio) error {
	cfg := config{}
	flags := flag.NewFlagSet("zitadelserver", flag.ContinueOnError)
	flags.SetOutput(std.err)
	listen := flags.String("listen", "127.0.0.1:0", "loopback `address` to listen on")
	flags.DurationVar(&cfg.lifetime, "lifetime", 30*time.Second, "lifetime of an access token (whole seconds)")
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
