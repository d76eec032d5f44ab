package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/claudefs/claudefs/internal/broker"
	"github.com/claudefs/claudefs/internal/control"
	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/policy"
)

// errNoRuntime: a container was named and nobody knows containers by name.
var errNoRuntime = errors.New("no container runtime is configured; name a process of the container with --pid")

// Explain implements control.Daemon: what would come of a read by a process, or by a container's first process.
func (d *Daemon) Explain(ctx context.Context, q control.Question) (*broker.Explanation, error) {
	if !policy.ValidTree(q.Tree) {
		return nil, fmt.Errorf("explain: %q is no tree's name", q.Tree)
	}
	pid := q.PID
	if q.Container != "" {
		if !d.cache.Configured() {
			return nil, fmt.Errorf("explain: %w", errNoRuntime)
		}
		f, err := d.cache.Find(ctx, q.Container)
		if err != nil {
			return nil, fmt.Errorf("explain: %w", err)
		}
		if f.InitPID == 0 {
			return nil, fmt.Errorf("explain: container %q does not run; save what inspect says of it and use --inspect", q.Container)
		}
		pid = f.InitPID
	}
	c, err := identity.CallerOf(pid)
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	return d.broker.Explain(ctx, c, q.Tree), nil
}
