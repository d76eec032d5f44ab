//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/audit"
	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// access cuts the access token out of a rendered file.
func access(file string) string {
	_, rest, _ := strings.Cut(file, `"accessToken":"`)
	token, _, _ := strings.Cut(rest, `"`)
	return token
}

// Fifty readers in ten trees at the moment of expiry: one grant, one token, no failed read.
func TestFiftyReadersAtExpiry(t *testing.T) {
	h := newHost(t, hostOptions{policy: "shared", server: strict})
	var boxes []*dockertest.Container
	for i := range 10 {
		boxes = append(boxes, docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree(fmt.Sprintf("t%d", i))}}))
	}
	h.login("default", true)
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			out, errText, code := boxes[i%10].Exec(context.Background(), "root", "cat", "/claude/.credentials.json")
			mu.Lock()
			defer mu.Unlock()
			if code != 0 {
				t.Errorf("reader %d: exit %d: %s", i, code, errText)
			}
			seen[access(out)]++
		})
	}
	wg.Wait()
	if got := h.tokens.Grants(); got != 1 {
		t.Errorf("%d grants", got)
	}
	if len(seen) != 1 {
		t.Errorf("readers saw %d different tokens", len(seen))
	}
	for token := range seen {
		if !h.tokens.Active(token) {
			t.Error("readers saw a token that is not active")
		}
	}
}

// maxRead is the longest a read may take while the token endpoint misbehaves.
const maxRead = 1200 * time.Millisecond

// The token endpoint is slow, failing or dead while the old token is valid: no read fails or is slow.
func TestEndpointFaults(t *testing.T) {
	for name, fault := range map[string]refreshtest.Fault{
		"slow":    {Delay: 3 * time.Second},
		"500":     {Status: 500, Body: `{"error":"server_error"}`, ContentType: "application/json"},
		"429":     {Status: 429, RetryAfter: "2"},
		"reset":   {Drop: "before"},
		"garbage": {Status: 200, Body: "\x00\x01{", ContentType: "application/json"},
		"html":    {Status: 200, Body: "<html>proxy login</html>", ContentType: "text/html"},
		"dead":    {}, // the listener is closed below
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A window longer than what is left: every read finds a renewal due.
			h := newHost(t, hostOptions{
				policy: "shared", config: "refresh: {window: 1h}\n",
				server: refreshtest.Config{Lifetime: 20 * time.Second, RevokeFamily: true, KeepOld: true},
			})
			h.tokens.SetFault(fault)
			if name == "dead" {
				h.tokens.Close()
			}
			h.login("default", false)
			c := docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree("web")}})
			// The loop runs in the container, so that only the reads are timed.
			const script = `i=0; while [ $i -lt 46 ]; do
				a=$(cut -d' ' -f1 /proc/uptime); cat /claude/.credentials.json >/tmp/out || echo failed
				b=$(cut -d' ' -f1 /proc/uptime); echo "$a $b"; usleep 400000; i=$((i+1)); done`
			out, errText, code := c.Exec(context.Background(), "root", "sh", "-c", script)
			if code != 0 || strings.Contains(out, "failed") {
				t.Fatalf("a read failed: exit %d: %s %s", code, out, errText)
			}
			var slowest float64
			for line := range strings.Lines(out) {
				var a, b float64
				if _, err := fmt.Sscan(line, &a, &b); err != nil {
					t.Fatalf("line %q: %v", line, err)
				}
				slowest = max(slowest, b-a)
			}
			t.Logf("slowest of 46 reads: %.2f s", slowest)
			if slowest > maxRead.Seconds() {
				t.Errorf("a read took %.2f s", slowest)
			}
			if name != "slow" && h.countEvents(audit.ActionRotate, audit.Failed) == 0 {
				t.Error("no failed grant is in the audit log: the fault was not met")
			}
		})
	}
}

func (h *host) countEvents(a audit.Action, o audit.Outcome) int {
	n := 0
	for _, e := range h.events() {
		if e.Action == a && e.Outcome == o {
			n++
		}
	}
	return n
}
