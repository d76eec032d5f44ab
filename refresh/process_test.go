package refresh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

const readersPerProcess = 25

func vaultConfig(dir string) vault.Config {
	ask := func(context.Context) (vault.Secret, error) { return secret("correct horse"), nil }
	return vault.Config{Dir: dir, Passphrase: ask, ScryptWorkFactor: 10}
}

// childTokens prints the token that each of many readers in this process gets.
func childTokens(dir, url string) error {
	v, err := vault.Open(vaultConfig(dir))
	if err != nil {
		return err
	}
	if err := v.Unlock(context.Background()); err != nil {
		return err
	}
	r, err := refresh.New(refresh.Config{Store: v, TokenURL: url, ClientID: clientID, Patience: 30 * time.Second})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	tokens, errs := make([]string, readersPerProcess), make([]error, readersPerProcess)
	for i := range tokens {
		wg.Go(func() {
			c, err := r.Token(context.Background(), account)
			if errs[i] = err; err == nil {
				tokens[i] = string(c.AccessToken.Reveal())
			}
		})
	}
	wg.Wait()
	fmt.Println(strings.Join(tokens, "\n"))
	return errors.Join(errs...)
}

// Four processes with 25 readers each find the token expired, on a server that kills a login whose refresh token
// comes twice: one request is sent, and everybody has its token.
func TestOneGrantForManyProcesses(t *testing.T) {
	srv := refreshtest.Start(t, refreshtest.Config{RevokeFamily: true})
	srv.SetFault(refreshtest.Fault{Delay: 200 * time.Millisecond})
	dir := t.TempDir() + "/vault"
	v, _, err := vault.Create(t.Context(), vaultConfig(dir), vault.BackendPassphrase)
	if err != nil {
		t.Fatal(err)
	}
	login := srv.NewLogin()
	login.ExpiresAt = time.Now().Add(-time.Minute)
	if _, err := v.Store(credential(account, login), vault.Version{}); err != nil {
		t.Fatal(err)
	}
	const processes = 4
	var out [processes]bytes.Buffer
	var running [processes]*exec.Cmd
	for i := range running {
		running[i] = exec.CommandContext(t.Context(), os.Args[0], "child-tokens", dir, srv.URL)
		running[i].Stdout, running[i].Stderr = &out[i], os.Stderr
		if err := running[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]int{}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
		for _, token := range strings.Fields(out[i].String()) {
			seen[token]++
		}
	}
	for token, n := range seen {
		if n != processes*readersPerProcess || !srv.Active(token) {
			t.Errorf("%d readers got one of %d tokens, want all of them one", n, len(seen))
		}
	}
	if got, want := len(srv.Requests()), 1; got != want {
		t.Errorf("requests: got %d, want %d", got, want)
	}
	if got := srv.Lost(); got != 0 || len(seen) == 0 {
		t.Errorf("lost %d logins", got)
	}
}
