// Command tokenendpoint is a token endpoint on loopback for the demo and for trying claudefs without an account: it
// rotates refresh tokens and revokes a login whose used refresh token comes again. It writes the credential file of a
// fresh login and prints its URL. Tokens of it are worth nothing anywhere.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/claudefs/claudefs/refresh/refreshtest"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "loopback `address`")
	lifetime := flag.Duration("lifetime", 30*time.Second, "of access tokens")
	file := flag.String("credentials", "", "`file` to write a fresh login to")
	flag.Parse()
	if err := run(*listen, *lifetime, *file); err != nil {
		fmt.Fprintln(os.Stderr, "tokenendpoint:", err)
		os.Exit(1)
	}
}

func run(listen string, lifetime time.Duration, file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", listen)
	}
	s := refreshtest.New(refreshtest.Config{Lifetime: lifetime, RevokeFamily: true})
	if file != "" {
		b, err := json.Marshal(s.NewLogin().File())
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("http://%s/v1/oauth/token\n", l.Addr())
	server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
