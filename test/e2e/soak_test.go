//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claudefs/claudefs/refresh/refreshtest"
	"github.com/claudefs/claudefs/test/internal/dockertest"
)

// TestSoak reads from ten containers while tokens rotate every few seconds and the token endpoint misbehaves half of
// the time, for SOAK (default 20 s). No read may fail while a valid token is known, no login may be lost, and the
// daemon's memory and descriptors must not grow.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if v := os.Getenv("SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t, hostOptions{policy: "shared", server: refreshtest.Config{Lifetime: 15 * time.Second, RevokeFamily: true, KeepOld: true}})
	h.login("default", false)
	var boxes []*dockertest.Container
	for i := range 10 {
		boxes = append(boxes, docker.RunContainer(t, dockertest.RunConfig{Image: image, Mounts: []string{h.tree(fmt.Sprintf("t%d", i))}}))
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var reads, failed atomic.Int64
	var wg sync.WaitGroup
	for _, b := range boxes {
		wg.Go(func() { soakReader(ctx, t, b, &reads, &failed) })
	}
	wg.Go(func() { misbehave(ctx, h.tokens) })
	before := h.footprint()
	wg.Wait()
	after := h.footprint()
	t.Logf("%v: %d reads, %d failed, %d rotations, %d grants refused or lost; daemon %s -> %s", length, reads.Load(), failed.Load(),
		h.tokens.Grants(), len(h.tokens.Requests())-h.tokens.Grants(), before, after)
	if failed.Load() > 0 {
		t.Errorf("%d of %d reads failed", failed.Load(), reads.Load())
	}
	if h.tokens.Lost() > 0 {
		t.Error("the login is lost")
	}
	if after.fds > before.fds+20 || after.kb > 2*before.kb+20_000 {
		t.Errorf("the daemon grew from %s to %s", before, after)
	}
}

func soakReader(ctx context.Context, t *testing.T, b *dockertest.Container, reads, failed *atomic.Int64) {
	const script = `i=0; while [ $i -lt 20 ]; do grep -q accessToken /claude/.credentials.json && echo ok || echo failed; usleep 20000; i=$((i+1)); done`
	for ctx.Err() == nil {
		out, errText, _ := b.Exec(context.Background(), "root", "sh", "-c", script)
		reads.Add(int64(strings.Count(out, "\n")))
		if n := strings.Count(out, "failed"); n > 0 {
			failed.Add(int64(n))
			t.Logf("reader: %d failures: %s", n, errText)
		}
	}
}

// misbehave gives the endpoint a fault for a while, then lets it work, over and over. Faults are shorter than what is
// left of a token when its renewal is due.
func misbehave(ctx context.Context, s *refreshtest.Server) {
	faults := []refreshtest.Fault{
		{Status: 500},
		{Status: 429, RetryAfter: "1"},
		{Drop: "before"},
		{Delay: 700 * time.Millisecond},
		{Status: 200, Body: "<html>", ContentType: "text/html"},
	}
	for ctx.Err() == nil {
		s.SetFault(faults[rand.IntN(len(faults))])
		pause(ctx, time.Second)
		s.SetFault(refreshtest.Fault{})
		pause(ctx, time.Second)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// footprint is what the daemon holds.
type footprint struct{ kb, fds int }

func (f footprint) String() string { return fmt.Sprintf("%d KiB, %d descriptors", f.kb, f.fds) }

func (h *host) footprint() footprint {
	h.t.Helper()
	var f footprint
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.server()))
	if err != nil {
		h.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &f.kb)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.server()))
	if err != nil {
		h.t.Fatal(err)
	}
	f.fds = len(entries)
	return f
}
