package container

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/claudefs/claudefs/internal/identity"
)

// firstOf finds the first process of the container that is looked for in what a runtime says of one.
type firstOf = func(*identity.Facts) (identity.Process, error)

// Having implements identity.Runtime. What is remembered is looked through first; else all runtimes are asked for all
// running containers, in the order of the runtimes, within callTimeout.
func (c *Cache) Having(ctx context.Context, first firstOf) (*identity.Facts, error) {
	for _, f := range c.kept() {
		if p, err := first(f); err == nil && c.met(p, f.ID) {
			return f, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	all, down := c.list(ctx, false)
	var refused error
	for _, s := range all {
		f, err := c.meet(ctx, s.ID, first)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, identity.ErrUnvouched):
			refused = err
		case !errors.Is(err, identity.ErrNoContainer):
			down = errors.Join(down, err)
		}
	}
	switch {
	case down != nil:
		// Fail closed: the one that did not answer may be the one.
		return nil, fmt.Errorf("find container by its first process: %w", down)
	case refused != nil:
		return nil, fmt.Errorf("%w: %v", identity.ErrNoContainer, refused) // it is nobody's word, and contradicts nothing
	}
	return nil, identity.ErrNoContainer
}

// meet returns what a runtime says of a container if it has the first process. ErrNoContainer: it has another one, or
// ended since.
//
// A runtime is asked anew once that process has been seen, and not by Inspect, which may share the answer to an earlier
// question: by the number that answer may mean a process that ended before, whose number came again.
func (c *Cache) meet(ctx context.Context, id string, first firstOf) (*identity.Facts, error) {
	said, err := c.Inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	seen, err := firstIn(said, first)
	if err != nil {
		return nil, err
	}
	if c.met(seen, id) {
		return said, nil
	}
	again, _, err := c.ask(ctx, id)
	if err != nil {
		return nil, err
	}
	now, err := firstIn(again, first)
	if err != nil {
		return nil, err
	}
	if again.ID != id || now != seen {
		// Fail closed: the container was started again between the questions.
		return nil, fmt.Errorf("first process of container %s changed while it was looked for", id)
	}
	c.remember(seen, id)
	return again, nil
}

func firstIn(f *identity.Facts, first firstOf) (identity.Process, error) {
	if f.InitPID == 0 {
		return identity.Process{}, identity.ErrNoContainer // not running yet, or no more
	}
	p, err := first(f)
	if err != nil && !errors.Is(err, identity.ErrUnvouched) {
		err = fmt.Errorf("%w: %w", identity.ErrNoContainer, err)
	}
	return p, err
}

// maxMet bounds what is remembered; with more, all are asked for anew.
const maxMet = 1024

// met reports whether a first process is known to be a container's. A process stays its container's.
func (c *Cache) met(first identity.Process, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.firsts[first]
	return ok && known == id
}

func (c *Cache) remember(first identity.Process, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.firsts == nil || len(c.firsts) >= maxMet {
		c.firsts = map[identity.Process]string{}
	}
	c.firsts[first] = id
}

// kept are the answers that may be used again.
func (c *Cache) kept() []*identity.Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []*identity.Facts
	for _, e := range c.entries {
		if c.live[e.from] && time.Since(e.at) <= maxAge {
			out = append(out, e.facts)
		}
	}
	return out
}
