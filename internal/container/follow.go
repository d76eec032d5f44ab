package container

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/claudefs/claudefs/internal/logkey"
)

// Run follows the event streams until ctx ends, and connects again when one breaks.
func (c *Cache) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range c.runtimes {
		g.Go(func() error { return c.follow(ctx, r) })
	}
	return g.Wait()
}

func (c *Cache) follow(ctx context.Context, r *Docker) error {
	pause := time.Second
	for ctx.Err() == nil {
		err := r.Events(ctx, func() { c.setLive(r, true); pause = time.Second }, c.drop)
		c.setLive(r, false)
		if ctx.Err() != nil {
			break
		}
		c.log.Debug("Runtime events interrupted", logkey.Path, r.Host(), logkey.Err, err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, 30*time.Second)
		}
	}
	return nil
}
