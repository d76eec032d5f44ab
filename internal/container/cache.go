package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/claudefs/claudefs/internal/identity"
)

// maxAge bounds how long an answer is used even while the event stream is up.
const maxAge = 30 * time.Second

type entry struct {
	facts *identity.Facts
	from  *Docker
	at    time.Time
}

// Cache asks several runtimes and remembers their answers while their event streams are up. The facts that it hands out
// are shared: nobody may change them.
type Cache struct {
	runtimes []*Docker
	log      *slog.Logger
	flights  singleflight.Group

	mu         sync.Mutex
	live       map[*Docker]bool
	entries    map[string]entry
	generation uint64                      // counts drops: an answer that overlapped one is not kept
	firsts     map[identity.Process]string // what Having found: ids by first process
}

// NewCache makes a cache over runtimes. When two of them know a container of the same id, the first one's word holds:
// list a runtime that belongs to a user after those of root.
func NewCache(log *slog.Logger, runtimes ...*Docker) *Cache {
	return &Cache{runtimes: runtimes, log: log, live: map[*Docker]bool{}, entries: map[string]entry{}}
}

// Configured reports whether there is any runtime to ask.
func (c *Cache) Configured() bool { return len(c.runtimes) > 0 }

// Inspect implements identity.Runtime. When no runtime knows the container it is ErrNoContainer; when one that might
// know it does not answer, that error. It takes at most callTimeout, over all runtimes.
//
// Callers that ask for one container at once share one question. It does not end with the caller that began it, whose
// process may be killed while others wait; each of them waits as long as its own context lets it.
func (c *Cache) Inspect(ctx context.Context, id string) (*identity.Facts, error) {
	f, generation, ok := c.lookup(id)
	if ok {
		return f, nil
	}
	// Who asks after an event must not be given an answer that was under way before: the generation is in the key.
	flight := c.flights.DoChan(fmt.Sprintf("%d %s", generation, id), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer cancel()
		f, from, err := c.ask(ctx, id)
		if err != nil {
			return nil, err
		}
		c.keep(f, from, generation)
		return f, nil
	})
	select {
	case r := <-flight:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*identity.Facts), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("inspect container: %w", ctx.Err())
	}
}

type answer struct {
	facts *identity.Facts
	err   error
}

// ask puts the question to all runtimes at once, so that one which hangs takes no other's time, and takes the answer of
// the first in order that knows the container: which one is the fastest must not decide whose word holds.
func (c *Cache) ask(ctx context.Context, id string) (*identity.Facts, *Docker, error) {
	var questions errgroup.Group
	defer func() { _ = questions.Wait() }() // they give no error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends those whose answer no longer matters; runs before the wait
	answers := make([]chan answer, len(c.runtimes))
	for i, r := range c.runtimes {
		answers[i] = make(chan answer, 1)
		questions.Go(func() error {
			f, err := r.Inspect(ctx, id)
			answers[i] <- answer{f, err}
			return nil
		})
	}
	var down error
	for i, r := range c.runtimes {
		a := <-answers[i]
		if a.err == nil {
			return a.facts, r, nil
		}
		if !errors.Is(a.err, identity.ErrNoContainer) {
			down = errors.Join(down, a.err)
		}
	}
	if down != nil {
		// Fail closed: the runtime that is down may be the one that knows it.
		return nil, nil, down
	}
	return nil, nil, identity.ErrNoContainer
}

// lookup returns the facts that are kept, or else the generation to ask in.
func (c *Cache) lookup(id string) (*identity.Facts, uint64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok || !c.live[e.from] || time.Since(e.at) > maxAge {
		return nil, c.generation, false
	}
	return e.facts, c.generation, true
}

// keep remembers an answer, unless it may be from before an event, or nothing would tell of the next one. What has no
// first process yet is about to change.
func (c *Cache) keep(f *identity.Facts, from *Docker, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation && c.live[from] && f.InitPID != 0 {
		c.entries[f.ID] = entry{facts: f, from: from, at: time.Now()}
	}
}

// freshFor is how long an answer is not asked for again whatever it is suspected of: a container that contradicts its
// runtime on purpose must not keep the answers for others from being kept.
const freshFor = 100 * time.Millisecond

// Forget implements identity.Runtime.
func (c *Cache) Forget(id string) {
	c.mu.Lock()
	e, ok := c.entries[id]
	c.mu.Unlock()
	if ok && time.Since(e.at) > freshFor {
		c.drop(id)
	}
}

func (c *Cache) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	delete(c.entries, id)
}

func (c *Cache) setLive(r *Docker, live bool) {
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
