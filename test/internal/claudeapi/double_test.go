package claudeapi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/test/internal/claudeapi"
	"github.com/claudefs/claudefs/test/internal/claudeclient"
	"golang.org/x/sys/unix"
)

const prompt = `{"model":"m","messages":[{"role":"user","content":"plain"},{"role":"user","content":[
 {"type":"text","text":"the prompt"},{"type":"text","text":"<system-reminder>no</system-reminder>"}]}]}`

// accept takes one token and says of another that it was revoked.
func accept(token string) claudeapi.Verdict {
	return map[string]claudeapi.Verdict{"good": claudeapi.Valid, "dead": claudeapi.Revoked}[token]
}

func newDouble(t *testing.T, cfg claudeapi.Config) (*claudeapi.Double, *claudeclient.Sandbox) {
	t.Helper()
	d, err := claudeapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte(d.HostsFile()), 0o644); err != nil {
		t.Fatal(err)
	}
	box, err := claudeclient.NewSandbox(hosts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, box
}

// client dials inside the sandbox and trusts the double's CA only.
func client(t *testing.T, d *claudeapi.Double, pid int) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(d.CAPEM()) {
		t.Fatal("CA is not readable")
	}
	dial := func(context.Context, string, string) (conn net.Conn, err error) {
		// Back to our own namespace before the thread is let go: were it the main
		// thread, the runtime could not destroy it, and /proc/<pid>/ns/net would
		// name the sandbox from then on.
		runtime.LockOSThread()
		own, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, err
		}
		defer own.Close()
		ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			return nil, err
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
		conn, err = net.Dial("tcp4", "127.0.0.1:443")
		if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
			return conn, back // the thread stays locked
		}
		runtime.UnlockOSThread()
		return conn, err
	}
	tr := &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// post returns the status and the body.
func post(t *testing.T, c *http.Client, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(out)
}

func TestVerdicts(t *testing.T) {
	d, box := newDouble(t, claudeapi.Config{Verdict: accept})
	closer, err := d.ListenInNetns(box.PID(), "one")
	if err != nil {
		t.Fatal(err)
	}
	c := client(t, d, box.PID())
	for _, tt := range []struct {
		token, want string
		status      int
	}{
		{"good", claudeapi.Echo("the prompt", "good"), 200},
		{"dead", "authentication_error", 401},
		{"other", "authentication_error", 401},
		{"", "authentication_error", 401},
	} {
		status, body := post(t, c, "https://api.anthropic.com/v1/messages", tt.token, prompt)
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("token %q: got %d %s, want %d and %q", tt.token, status, body, tt.status, tt.want)
		}
	}
	if got := d.Requests(); len(got) != 4 || got[0].Client != "one" || got[1].Status != 401 {
		t.Errorf("recorded %v", got)
	}
	if err := closer.Close(); err != nil {
		t.Error(err)
	}
	// The port is free again: a listener may be opened anew.
	if _, err := d.ListenInNetns(box.PID(), "two"); err != nil {
		t.Error(err)
	}
}

// The configured token handler sees the whole body, and its calls are recorded
// but are no violation; a revocation is one.
func TestTokenHandler(t *testing.T) {
	seen := make(chan string, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- string(body)
		w.WriteHeader(http.StatusTeapot)
	})
	d, box := newDouble(t, claudeapi.Config{Verdict: accept, Token: h})
	if _, err := d.ListenInNetns(box.PID(), "one"); err != nil {
		t.Fatal(err)
	}
	c := client(t, d, box.PID())
	const form = `{"grant_type":"refresh_token","refresh_token":"r"}`
	if status, _ := post(t, c, "https://platform.claude.com/v1/oauth/token", "", form); status != http.StatusTeapot {
		t.Errorf("status %d, want the handler's", status)
	}
	if got := <-seen; got != form {
		t.Errorf("handler saw %q", got)
	}
	if got := d.TokenRequests(); len(got) != 1 || got[0].Body.Reveal() != form || got[0].Violation != "" {
		t.Errorf("token requests %v", got)
	}
	post(t, c, "https://console.anthropic.com/v1/oauth/token/revoke", "", form)
	if got := d.Violations(); len(got) != 1 {
		t.Errorf("violations %v, want the revocation", got)
	}
}

// Fail closed: the double refuses every place from which the client could reach
// the real servers.
func TestRefusesSharedNamespace(t *testing.T) {
	d, box := newDouble(t, claudeapi.Config{Verdict: accept})
	if _, err := d.ListenInNetns(os.Getpid(), "own"); err == nil {
		t.Error("listened in our own namespace")
	}
	ip := func(args ...string) {
		t.Helper()
		cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(box.PID()), "-n", "ip"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip("link", "add", "d0", "type", "veth")
	ip("link", "set", "d0", "up")
	if _, err := d.ListenInNetns(box.PID(), "second link"); err == nil {
		t.Error("listened in a namespace with a second link")
	}
	ip("link", "set", "d0", "down")
	if _, err := d.ListenInNetns(box.PID(), "link down"); err != nil {
		t.Errorf("refused a namespace whose second link is down: %v", err)
	}
	// The threads came back: this process still sees its own links.
	links, err := net.Interfaces()
	if err != nil || len(links) == 0 {
		t.Errorf("own links %v, %v", links, err)
	}
}
