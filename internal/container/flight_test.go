package container_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/identity"
)

// Equal questions share one call, and a caller who gives up takes nobody along, even the one who asked first.
func TestEqualQuestionsAreOneCall(t *testing.T) {
	const others = 20
	f := newFakeDocker(t)
	f.put(idA, running(idA, "x"))
	hold := make(chan struct{})
	f.holdInspect(hold)
	c := container.NewCache(slog.New(slog.DiscardHandler), docker(t, f.host))

	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() {
		_, err := c.Inspect(ctx, idA)
		first <- err
	}()
	eventually(t, "the first question is at the runtime", func() bool { return f.inspects.Load() == 1 })
	var all sync.WaitGroup
	asked := make(chan struct{}, others)
	for range others {
		all.Go(func() {
			asked <- struct{}{}
			if got, err := c.Inspect(context.Background(), idA); err != nil || got.Name != "x" {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	for range others {
		<-asked
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) || errors.Is(err, identity.ErrNoContainer) {
		t.Errorf("who gave up: got %v", err)
	}
	time.Sleep(20 * time.Millisecond) // for those that have said that they ask, and do not yet wait
	close(hold)
	all.Wait()
	if got := f.inspects.Load(); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
}

// An answer that was under way before an event is not given to who asks after it.
func TestQuestionAfterAnEventIsANewCall(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "old"))
	c, streams := cached(t, f)
	hold := make(chan struct{})
	f.holdInspect(hold)
	early := make(chan string, 1)
	go func() {
		got, err := c.Inspect(context.Background(), idA)
		if err != nil {
			t.Error(err)
			got = &identity.Facts{}
		}
		early <- got.Name
	}()
	eventually(t, "the question is at the runtime", func() bool { return f.inspects.Load() == 1 })
	f.put(idA, running(idA, "new"))
	f.holdInspect(nil)
	drops := c.Drops()
	streams[0] <- event(idA)
	eventually(t, "the event is handled", func() bool { return c.Drops() > drops })
	if got := name(t, c); got != "new" {
		t.Errorf("asked after the event, got %q", got)
	}
	close(hold)
	if got := <-early; got != "old" {
		t.Errorf("the held answer says %q", got)
	}
	if got := name(t, c); got != "new" {
		t.Errorf("the held answer was kept: %q", got)
	}
}

// However many runtimes hang, a caller waits 2 s; and the answer of one that does not hang is not lost.
func TestSilentRuntimesAreBoundedTogether(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	var ds []*container.Docker
	for range 3 {
		f := newFakeDocker(t)
		f.holdInspect(hold)
		ds = append(ds, docker(t, f.host))
	}
	live := newFakeDocker(t)
	live.put(idA, running(idA, "live"))
	within := func(what string, least, most time.Duration, c *container.Cache, call func(c *container.Cache) error) {
		t.Helper()
		start := time.Now()
		err := call(c)
		if took := time.Since(start); took < least || took > most {
			t.Errorf("%s: took %v (%v)", what, took, err)
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	silent := container.NewCache(quiet, ds...)
	for what, call := range map[string]func(c *container.Cache) error{
		"Inspect": func(c *container.Cache) error { _, err := c.Inspect(context.Background(), idA); return err },
		"List":    func(c *container.Cache) error { _, err := c.List(context.Background()); return err },
		"Find":    func(c *container.Cache) error { _, err := c.Find(context.Background(), "x"); return err },
	} {
		within(what, 0, 3*time.Second, silent, func(c *container.Cache) error {
			err := call(c)
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, identity.ErrNoContainer) {
				t.Errorf("%s of silent runtimes: got %v", what, err)
			}
			return err
		})
	}
	found := func(c *container.Cache) error {
		got, err := c.Inspect(context.Background(), idA)
		if err != nil || got.Name != "live" {
			t.Errorf("got %+v, %v", got, err)
		}
		return err
	}
	// The first in order that knows it is not held up by those after it. Those before might know it as well.
	within("live one first", 0, time.Second, container.NewCache(quiet, append([]*container.Docker{docker(t, live.host)}, ds...)...), found)
}

func TestTwoSocketsOneDown(t *testing.T) {
	live, dead := newFakeDocker(t), newFakeDocker(t)
	live.put(idA, running(idA, "web"))
	dead.server.CloseClientConnections()
	dead.server.Close()
	for _, order := range [][]*fakeDocker{{live, dead}, {dead, live}} {
		c := container.NewCache(slog.New(slog.DiscardHandler), docker(t, order[0].host), docker(t, order[1].host))
		if got, err := c.Inspect(context.Background(), idA); err != nil || got.Name != "web" {
			t.Errorf("known to the live one: got %+v, %v", got, err)
		}
		for _, s := range []string{"web", idA[:12], idA} {
			if got, err := c.Find(context.Background(), s); err != nil || got.ID != idA {
				t.Errorf("find %s: got %+v, %v", s, got, err)
			}
		}
		if _, err := c.Inspect(context.Background(), idB); err == nil || errors.Is(err, identity.ErrNoContainer) {
			t.Errorf("inspect what may be on the dead one: got %v", err)
		}
		for _, s := range []string{"db", idB[:12], idB} {
			if _, err := c.Find(context.Background(), s); err == nil || errors.Is(err, identity.ErrNoContainer) {
				t.Errorf("find %s, which may be on the dead one: got %v", s, err)
			}
		}
		if got, err := c.List(context.Background()); err == nil || len(got) != 1 || got[0].ID != idA {
			t.Errorf("list: got %+v, %v, want one and an error", got, err)
		}
	}
}

// The word of the runtime that comes first holds, whichever is faster: a later one may belong to a user who makes its
// answers up.
func TestFirstRuntimesWordHolds(t *testing.T) {
	slow, fast := newFakeDocker(t), newFakeDocker(t)
	slow.put(idA, running(idA, "root's"))
	fast.put(idA, running(idA, "made up"))
	hold := make(chan struct{})
	slow.holdInspect(hold)
	c := container.NewCache(slog.New(slog.DiscardHandler), docker(t, slow.host), docker(t, fast.host))
	got := make(chan string, 1)
	go func() {
		f, err := c.Inspect(context.Background(), idA)
		if err != nil {
			t.Error(err)
			f = &identity.Facts{}
		}
		got <- f.Name
	}()
	eventually(t, "both are asked", func() bool { return slow.inspects.Load() == 1 && fast.inspects.Load() == 1 })
	close(hold)
	if name := <-got; name != "root's" {
		t.Errorf("got %q", name)
	}
	if l, err := c.List(context.Background()); err != nil || len(l) != 1 || l[0].Host != slow.host {
		t.Errorf("list: got %+v, %v, want the first one's", l, err)
	}
}

func TestCacheForgetsWithTime(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "old"))
	c, _ := cached(t, f)
	warm(t, c, f)
	f.put(idA, running(idA, "new"))
	c.Age(container.MaxAge - time.Second)
	if got := name(t, c); got != "old" {
		t.Errorf("got %q before its time", got)
	}
	c.Age(2 * time.Second)
	if got := name(t, c); got != "new" {
		t.Errorf("got %q after its time", got)
	}
}

// What happens between the runtime's answer and the moment it takes note of events is asked for too.
func TestEventsAreAskedFromBefore(t *testing.T) {
	f := newFakeDocker(t)
	cached(t, f)
	since, err := strconv.ParseInt(f.since.Load().(string), 10, 64)
	if age := time.Now().Unix() - since; err != nil || age < 1 || age > 30 {
		t.Errorf("since %v is %d s ago, %v", f.since.Load(), age, err)
	}
}

// The first questions may come while the first stream begins; the race detector has to see nothing in it.
func TestQuestionsWhileTheStreamBegins(t *testing.T) {
	for range 20 {
		f := newFakeDocker(t)
		f.put(idA, running(idA, "x"))
		c := over(t, f)
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() { _ = c.Run(ctx) })
		for range 4 {
			all.Go(func() {
				if _, err := c.Inspect(context.Background(), idA); err != nil {
					t.Error(err)
				}
				if _, err := c.List(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		<-f.streams
		cancel()
		all.Wait()
	}
}

func BenchmarkInspectHot(b *testing.B) {
	f := newFakeDocker(b)
	f.put(idA, running(idA, "x"))
	c, _ := cached(b, f)
	warm(b, c, f)
	before := f.inspects.Load()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Inspect(b.Context(), idA); err != nil {
			b.Fatal(err)
		}
	}
	if got := f.inspects.Load() - before; b.Elapsed() < container.MaxAge && got != 0 {
		b.Errorf("%d questions reached the runtime", got)
	}
}
