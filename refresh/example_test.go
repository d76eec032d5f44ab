package refresh_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

// A refresher renews the tokens of a vault. A reader gets a token that works, and never the refresh token's use.
func ExampleRefresher() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "claudefs-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	v, _, err := vault.Create(ctx, vault.Config{
		Dir:              filepath.Join(dir, "vault"),
		Passphrase:       func(context.Context) (vault.Secret, error) { return vault.NewSecret([]byte("correct horse")), nil },
		ScryptWorkFactor: 10, // an example need not be safe
	}, vault.BackendPassphrase)
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := refreshtest.New(refreshtest.Config{})
	login := srv.NewLogin()
	_, err = v.Store(&vault.Credential{
		Account: "work", AccessToken: vault.NewSecret([]byte(login.AccessToken)),
		RefreshToken: vault.NewSecret([]byte(login.RefreshToken)),
		ExpiresAt:    time.Now().Add(-time.Minute), // it has ended: the reader waits for a grant
		Scopes:       login.Scopes, State: vault.StateValid, Generation: 1,
	}, vault.Version{})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := refresh.New(refresh.Config{
		Store: v, TokenURL: "https://as.example/v1/oauth/token", ClientID: "example", Transport: srv.Transport(),
		OnGrant: func(ev refresh.Event) error {
			fmt.Printf("%s: generation %d, error %v\n", ev.Account, ev.Generation, ev.Err)
			return nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := r.Token(ctx, "work")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the server takes it:", srv.Active(string(c.AccessToken.Reveal())))
	fmt.Println("it prints as:", c.AccessToken)
	// Output:
	// work: generation 2, error <nil>
	// the server takes it: true
	// it prints as: REDACTED
}
