package claudeapi_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/claudebox"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
)

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// The real client, an invented token in a plain directory, one prompt.
func TestRealClientGetsAnEcho(t *testing.T) {
	box := claudebox.New(t)
	box.Accept("invented-one")
	box.Rotate("invented-one")
	res, err := claudeclient.Once(timeout(t), box.Command(t.Context(), claudeclient.OnceArgs("hi there")...))
	if err != nil {
		t.Fatal(err)
	}
	if want := claudeapi.Echo("hi there", "invented-one"); res.Text != want || res.ExitCode != 0 {
		t.Errorf("client printed %q (exit %d, stderr %q), want %q", res.Text, res.ExitCode, res.Stderr, want)
	}
	for _, r := range box.Double.Violations() {
		t.Errorf("violation: %v", r)
	}
	var prompts int
	for _, r := range box.Double.Requests() {
		t.Logf("%s %s%s %d %v", r.Method, r.Host, r.Path, r.Status, r.Bearer)
		if r.Client != "box" || !r.APIKey.IsZero() {
			t.Errorf("request %v: want client box and no API key", r)
		}
		if r.Path == "/v1/messages" && r.Bearer.Reveal() == "invented-one" && r.Status == 200 {
			prompts++
		}
	}
	if prompts != 1 {
		t.Errorf("%d served prompts recorded, want 1", prompts)
	}
	t.Logf("one run took %v", res.Duration)
}

// A token that the double does not know is refused; with a null refreshToken the
// client gives up and leaves the token endpoint alone.
func TestRealClientIsRefused(t *testing.T) {
	box := claudebox.New(t)
	box.Rotate("never-issued")
	res, err := claudeclient.Once(timeout(t), box.Command(t.Context(), claudeclient.OnceArgs("hi")...))
	if err != nil {
		t.Fatal(err)
	}
	if res.ExitCode != 1 || !strings.Contains(res.Text, "401") {
		t.Errorf("client printed %q (exit %d), want a 401 and exit 1", res.Text, res.ExitCode)
	}
	if n := len(box.Double.TokenRequests()); n != 0 {
		t.Errorf("%d token requests, want 0", n)
	}
}

// An expired token with a refresh token makes the client call the token
// endpoint: a violation when the test has configured none.
func TestRealClientViolation(t *testing.T) {
	box := claudebox.New(t)
	doc := `{"claudeAiOauth":{"accessToken":"old","refreshToken":"canary-refresh","expiresAt":1,"scopes":["user:inference"]}}`
	if err := os.WriteFile(box.ConfigDir+"/.credentials.json", []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := claudeclient.Once(timeout(t), box.Command(t.Context(), claudeclient.OnceArgs("hi")...)); err != nil {
		t.Fatal(err)
	}
	got := box.Double.Violations()
	if len(got) != 1 {
		t.Fatalf("%d violations %v, want 1", len(got), got)
	}
	if !strings.Contains(got[0].Body.Reveal(), "canary-refresh") || got[0].Status != 400 {
		t.Errorf("violation %v does not hold the refresh token, or was not refused", got[0])
	}
	if s := fmt.Sprintf("%v %+v %#v", got, got, got); strings.Contains(s, "canary") {
		t.Errorf("a printed request shows the token")
	}
}
