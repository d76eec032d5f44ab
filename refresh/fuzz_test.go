package refresh_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/claudefs/claudefs/refresh"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/vault"
)

// canned is a transport that gives one answer to every request.
type canned struct {
	status                  int
	contentType, body       string
	retryAfter, redirection string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.Context()).WroteHeaders()
	return &http.Response{
		StatusCode: c.status, Body: io.NopCloser(strings.NewReader(c.body)), Request: r,
		Header: http.Header{"Content-Type": {c.contentType}, "Retry-After": {c.retryAfter}, "Location": {c.redirection}},
	}, nil
}

// Whatever the server answers: there is an error or a token, never both; no error shows a token; and the record in the
// vault says what the error says.
func FuzzAnswer(f *testing.F) {
	for _, tc := range failures {
		f.Add(tc.fault.Status, tc.fault.ContentType, tc.fault.Body, tc.fault.RetryAfter, tc.fault.Location)
	}
	f.Add(200, jsonType, `{"access_token":"a","refresh_token":"b","expires_in":1e300,"scope":"x y"}`, "", "")
	f.Add(200, "application/x-www-form-urlencoded", `access_token=a&expires_in=-1`, "", "")
	login := refreshtest.Login{AccessToken: "sk-ant-oat01-ACCESS", RefreshToken: "sk-ant-ort01-REFRESH", Scopes: []string{"x"}}
	echo := strings.NewReplacer("RT", login.RefreshToken, "AT", login.AccessToken)
	f.Fuzz(func(t *testing.T, status int, contentType, body, retryAfter, location string) {
		synctest.Test(t, func(t *testing.T) {
			store := newMemory(credential(account, login))
			r := newRefresher(t, refresh.Config{
				Store: store, TokenURL: tokenURL, ClientID: clientID,
				Transport: canned{status, contentType, echo.Replace(body), retryAfter, echo.Replace(location)},
			})
			c, err := r.Force(context.Background(), account)
			after := store.record(account)
			if err == nil {
				if c.AccessToken.IsZero() || c.RefreshToken.IsZero() || after.Generation != 2 || !after.ExpiresAt.After(after.IssuedAt) {
					t.Error("success without a token")
				}
				return
			}
			wantOutcome(t, err, &after)
			if c != nil || !after.RefreshToken.Equal(secret(login.RefreshToken)) {
				t.Error("a failure changed or served a token")
			}
			for _, s := range []string{login.AccessToken, login.RefreshToken} {
				if strings.Contains(err.Error(), s) || strings.Contains(after.Why, s) {
					t.Errorf("got %q and %q: a token shows", err, after.Why)
				}
			}
		})
	})
}

func wantOutcome(t *testing.T, err error, after *vault.Credential) {
	t.Helper()
	var ge *refresh.GrantError
	if !errors.As(err, &ge) {
		t.Fatalf("got %v, want a GrantError", err)
	}
	want := map[refresh.Class]vault.State{refresh.ClassDead: vault.StateDead, refresh.ClassHold: vault.StateHold}[ge.Class]
	if want == "" {
		want = vault.StateValid
	}
	if after.State != want || (after.Intent != nil) != (ge.Class == refresh.ClassInDoubt) || after.Generation != 1 {
		t.Errorf("class %s: got state %s, intent %v", ge.Class, after.State, after.Intent)
	}
	if ge.RetryAfter < 0 {
		t.Errorf("retry after %v", ge.RetryAfter)
	}
}
