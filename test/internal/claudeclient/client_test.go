package claudeclient_test

import (
	"context"
	"testing"
	"time"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/claudebox"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
)

func start(t *testing.T, box *claudebox.Box) *claudeclient.Session {
	t.Helper()
	s, err := claudeclient.Start(box.Command(context.Background(), claudeclient.SessionArgs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func prompt(t *testing.T, s *claudeclient.Session, text, token string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	r, err := s.Prompt(ctx, text)
	if err != nil {
		t.Fatal(err)
	}
	if want := claudeapi.Echo(text, token); r.Text != want || r.IsError {
		t.Fatalf("reply %+v, want %q", r, want)
	}
	t.Logf("%s: %v", text, r.Duration)
}

// One session follows the file: each prompt carries the token of its time.
func TestSessionFollowsRotation(t *testing.T) {
	box := claudebox.New(t)
	box.Accept("token-a")
	box.Accept("token-b")
	box.Rotate("token-a")
	s := start(t, box)
	prompt(t, s, "first", "token-a")
	prompt(t, s, "second", "token-a")
	box.Rotate("token-b")
	prompt(t, s, "third", "token-b")
	if v := box.Double.Violations(); len(v) != 0 {
		t.Errorf("violations: %v", v)
	}
}

// The token dies while the session runs and the file has a new one with the OLD
// mtime, so that the client notices by the 401 alone: the user sees nothing.
func TestSessionRecoversFromRevocation(t *testing.T) {
	box := claudebox.New(t)
	box.Accept("token-a")
	box.Rotate("token-a")
	s := start(t, box)
	prompt(t, s, "first", "token-a")
	box.Revoke("token-a")
	box.Accept("token-b")
	rotateSilently(t, box, "token-b")
	prompt(t, s, "second", "token-b")
	var refused int
	for _, r := range box.Double.Requests() {
		if r.Status == 401 && r.Path == "/v1/messages" {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no request was refused: the client did not recover from anything")
	}
	if n := len(box.Double.TokenRequests()); n != 0 {
		t.Errorf("%d token requests, want 0", n)
	}
}

// An error is reported as such, and the session goes on once the file is good.
func TestSessionHealsAfterError(t *testing.T) {
	box := claudebox.New(t)
	box.Rotate("never-issued")
	s := start(t, box)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	r, err := s.Prompt(ctx, "first")
	if err != nil || !r.IsError {
		t.Fatalf("reply %+v, error %v, want an error reply", r, err)
	}
	t.Logf("refused after %v: %s", r.Duration, r.Text)
	box.Accept("token-b")
	box.Rotate("token-b")
	prompt(t, s, "second", "token-b")
}
