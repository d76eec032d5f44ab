package settings_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/settings"
	"github.com/claudefs/claudefs/vault"
)

var key = vault.NewSecret([]byte(secret))

func TestDeliver(t *testing.T) {
	for _, in := range []string{`{"model":"opus"}`, `{"apiKeyHelper":"evil","model":"opus"}`} {
		got := settings.Deliver(parse(t, in))
		var doc struct{ APIKeyHelper, Model string }
		if err := json.Unmarshal(got.Bytes(), &doc); err != nil || doc.Model != "opus" {
			t.Fatalf("got %s, %v", got.Bytes(), err)
		}
		if strings.Contains(doc.APIKeyHelper, "evil") {
			t.Errorf("got %s", got.Bytes())
		}
		back, removed := settings.Withdraw(got, key)
		if !back.Equal(parse(t, `{"model":"opus"}`)) || removed != nil {
			t.Errorf("came back as %s, %v", back.Bytes(), removed)
		}
	}
}

// The helper finds the file in both places where a client can have its settings.
func TestDeliveredHelperRuns(t *testing.T) {
	var doc struct{ APIKeyHelper string }
	if err := json.Unmarshal(settings.Deliver(new(settings.Document)).Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for env, want := range map[string]string{
		"CLAUDE_CONFIG_DIR=/a b": "/a b/" + settings.KeyFile,
		"HOME=/home/x":           "/home/x/.claude/" + settings.KeyFile,
	} {
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `cat() { printf %s "$1"; }; `+doc.APIKeyHelper)
		cmd.Env = []string{env}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("%s: got %s, %v, want %s", env, out, err, want)
		}
	}
}

func TestWithdrawKey(t *testing.T) {
	in := parse(t, `{"model":"opus","apiKeyHelper":"echo `+secret+`","env":{"A":"1","ANTHROPIC_API_KEY":"`+secret+`","B":"\u0073`+secret[1:]+`"},
		"list":["x",["`+secret+`"],{"k":"`+secret+`"}],"a `+secret+` b":1,"another \n text":{"k":"`+secret+`"}}`)
	got, removed := settings.Withdraw(in, key)
	if want := `{"model":"opus","env":{"A":"1"},"list":["x",[],{}],"another \n text":{}}`; !got.Equal(parse(t, want)) {
		t.Errorf("got %s, want %s", got.Bytes(), want)
	}
	var paths []string
	for _, r := range removed {
		paths = append(paths, r.Path)
	}
	if got, want := strings.Join(paths, " "), "apiKeyHelper env.ANTHROPIC_API_KEY env.B list[1][0] list[2].k … ….k"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if strings.Contains(strings.Join(paths, " "), "SECRET") {
		t.Error("a path quotes the key")
	}
}

func TestWithdrawWithoutKey(t *testing.T) {
	in := parse(t, `{"a":"","apiKeyHelper":"mine"}`)
	if got, removed := settings.Withdraw(in, vault.Secret{}); !got.Equal(in) || removed != nil {
		t.Errorf("got %s, %v", got.Bytes(), removed)
	}
}
