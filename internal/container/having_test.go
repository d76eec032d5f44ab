package container_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/claudefs/claudefs/internal/container"
	"github.com/claudefs/claudefs/internal/identity"
)

// withPID is a running container whose first process has a number.
func withPID(id, name string, pid int) object {
	c := running(id, name)
	c["State"] = object{"Pid": pid, "Running": true}
	return c
}

// started finds first processes by their numbers, and says when they started.
func started(starts map[uint32]uint64) func(*identity.Facts) (identity.Process, error) {
	return func(f *identity.Facts) (identity.Process, error) {
		start, ok := starts[f.InitPID]
		if !ok {
			return identity.Process{}, errors.New("another process")
		}
		return identity.Process{PID: f.InitPID, Start: start}, nil
	}
}

func TestHaving(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, withPID(idA, "a", 41))
	f.put(idB, withPID(idB, "b", 42))
	c, streams := cached(t, f)
	want := started(map[uint32]uint64{42: 7})
	got, err := c.Having(t.Context(), want)
	if err != nil || got.ID != idB {
		t.Fatalf("got %+v, %v", got, err)
	}
	eventually(t, "what was found is kept", func() bool {
		before := f.inspects.Load()
		got, err := c.Having(t.Context(), want)
		return err == nil && got.ID == idB && f.inspects.Load() == before
	})
	// The container ended, and its number came to be another one's.
	f.put(idB, withPID(idB, "b", 0))
	streams[0] <- event(idB)
	eventually(t, "what ended is forgotten", func() bool {
		_, err := c.Having(t.Context(), want)
		return errors.Is(err, identity.ErrNoContainer)
	})
}

func TestHavingNobody(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, withPID(idA, "a", 41))
	c := over(t, f)
	if got, err := c.Having(t.Context(), started(nil)); !errors.Is(err, identity.ErrNoContainer) {
		t.Errorf("got %+v, %v", got, err)
	}
	unvouched := func(*identity.Facts) (identity.Process, error) { return identity.Process{}, identity.ErrUnvouched }
	got, err := c.Having(t.Context(), unvouched)
	if !errors.Is(err, identity.ErrNoContainer) || errors.Is(err, identity.ErrDenied) || !strings.Contains(err.Error(), "does not own") {
		t.Errorf("a runtime without a say: got %+v, %v", got, err)
	}
}

// Fail closed: the runtime that does not answer may be the one that knows the container.
func TestHavingFailsClosedWhileARuntimeIsDown(t *testing.T) {
	up, down := newFakeDocker(t), newFakeDocker(t)
	up.put(idA, withPID(idA, "a", 41))
	down.server.Close()
	c := over(t, up, down)
	if got, err := c.Having(t.Context(), started(nil)); err == nil || errors.Is(err, identity.ErrNoContainer) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := c.Having(t.Context(), started(map[uint32]uint64{41: 1})); err != nil || got.ID != idA {
		t.Errorf("the other runtime's: got %+v, %v", got, err)
	}
}

// A runtime's word for a number is from before a process with it was seen, as long as it is not asked anew.
func TestHavingAsksAnew(t *testing.T) {
	for name, after := range map[string]object{"ended": withPID(idA, "a", 0), "another": withPID(idA, "a", 43)} {
		f := newFakeDocker(t)
		f.put(idA, withPID(idA, "a", 42))
		c, _ := cached(t, f)
		warm(t, c, f)
		seen := func(said *identity.Facts) (identity.Process, error) {
			f.put(idA, after) // once it has been seen, the runtime notices
			return identity.Process{PID: said.InitPID, Start: 1}, nil
		}
		if got, err := c.Having(t.Context(), seen); err == nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// Fail closed: a number that came again between the questions is another process.
func TestHavingRefusesAProcessThatChanged(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, withPID(idA, "a", 42))
	start := uint64(0)
	changing := func(said *identity.Facts) (identity.Process, error) {
		start++
		return identity.Process{PID: said.InitPID, Start: start}, nil
	}
	if got, err := over(t, f).Having(t.Context(), changing); err == nil || !strings.Contains(err.Error(), "changed while") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestPeer(t *testing.T) {
	f := newFakeDocker(t)
	f.put(idA, running(idA, "a"))
	got, err := docker(t, f.host).Inspect(context.Background(), idA)
	if err != nil || got.Peer == nil || int(*got.Peer) != os.Geteuid() {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Fail closed: who comes to serve a socket after another one does not speak in the other's name.
func TestPeerStaysTheSame(t *testing.T) {
	if err := container.Settle(1000, 1000, 1000); err != nil {
		t.Error(err)
	}
	if err := container.Settle(0, 1000); err == nil || !strings.Contains(err.Error(), "uid 1000 serves it, and uid 0 did before") {
		t.Errorf("got %v", err)
	}
}
