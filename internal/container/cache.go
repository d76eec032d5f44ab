package container

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/claudefs/claudefs/internal/identity"
	"github.com/claudefs/claudefs/internal/logkey"
)

// maxAge bounds how long an answer is used even while the event stream is up.
const maxAge = 30 * time.Second

// source is a runtime whose changes can be followed.
type source interface {
	identity.Runtime
	Events(ctx context.Context, ready func(), changed func(id string)) error
	Host() string
}

type entry struct {
	facts *identity.Facts
	from  source
	at    time.Time
}

// Cache asks several runtimes and remembers their answers while their event streams are up.
type Cache struct {
	runtimes []source
	log      *slog.Logger

	mu         sync.Mutex
	live       map[source]bool
	entries    map[string]entry
	generation uint64 // counts drops: an answer that overlapped one is not kept
}

// NewCache makes a cache over runtimes, asked in order.
func NewCache(log *slog.Logger, runtimes ...*Docker) *Cache {
	c := &Cache{log: log, live: map[source]bool{}, entries: map[string]entry{}}
	for _, r := range runtimes {
		c.runtimes = append(c.runtimes, r)
	}
	return c
}

// Configured reports whether there is any runtime to ask.
func (c *Cache) Configured() bool { return len(c.runtimes) > 0 }

// Inspect implements identity.Runtime. When no runtime knows the container it is ErrNoContainer; when one that might
// know it does not answer, that error.
func (c *Cache) Inspect(ctx context.Context, id string) (*identity.Facts, error) {
	if f, ok := c.lookup(id); ok {
		return f, nil
	}
	c.mu.Lock()
	generation := c.generation
	c.mu.Unlock()
	var down error
	for _, r := range c.runtimes {
		f, err := r.Inspect(ctx, id)
		if err == nil {
			c.keep(f, r, generation)
			return f, nil
		}
		if !errors.Is(err, identity.ErrNoContainer) {
			down = errors.Join(down, err)
		}
	}
	if down != nil {
		return nil, down
	}
	return nil, identity.ErrNoContainer
}

func (c *Cache) lookup(id string) (*identity.Facts, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok || !c.live[e.from] || time.Since(e.at) > maxAge {
		return nil, false
	}
	return e.facts, true
}

func (c *Cache) keep(f *identity.Facts, from source, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation && c.live[from] && f.InitPID != 0 {
		c.entries[f.ID] = entry{facts: f, from: from, at: time.Now()}
	}
}

func (c *Cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	delete(c.entries, id)
}

func (c *Cache) setLive(r source, live bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.live[r] = live
	for id, e := range c.entries {
		if e.from == r {
			delete(c.entries, id)
		}
	}
}

// Run follows the event streams until ctx ends, and connects again when one breaks.
func (c *Cache) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range c.runtimes {
		g.Go(func() error { return c.follow(ctx, r) })
	}
	return g.Wait()
}

func (c *Cache) follow(ctx context.Context, r source) error {
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
