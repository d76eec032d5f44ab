package ledger_test

import (
	"errors"
	"testing"

	"github.com/claudefs/claudefs/internal/ledger"
)

func TestHandles(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    ledger.Handle
		open int
	}{
		{"file", ledger.Handle{Node: 5, Flags: 1<<32 - 1}, 1},
		{"file with an object", ledger.Handle{Node: 5, Object: 1<<24 - 1}, 1},
		{"directory", ledger.Handle{Node: 5, Dir: true}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fresh(t)
			// What the place held before must not show.
			before, err := l.Open(ledger.Handle{Node: 1<<64 - 1, Flags: 77, Object: 77, Dir: !tc.h.Dir}, 77)
			if err != nil {
				t.Fatal(err)
			}
			l.Release(before)
			fh, err := l.Open(tc.h, 42)
			if err != nil || fh == 0 || fh == before || ledger.Index(fh) != ledger.Index(before) {
				t.Fatalf("handle %#x after %#x, %v", fh, before, err)
			}
			next := reopened(t, l)
			for who, l := range map[string]*ledger.Ledger{"live": l, "reopened": next} {
				if got, ok := l.Handle(fh); !ok || got != tc.h {
					t.Errorf("%s: %+v %v, want %+v", who, got, ok, tc.h)
				}
				if got := l.OpenHandles(5); got != tc.open {
					t.Errorf("%s: %d open handles, want %d", who, got, tc.open)
				}
				all := 0
				l.Handles(func(got uint64, h ledger.Handle, unique uint64) {
					if all++; got != fh || h != tc.h || unique != 42 {
						t.Errorf("%s: handle %#x is %+v of request %d", who, got, h, unique)
					}
				})
				if all != 1 {
					t.Errorf("%s: %d handles, want 1", who, all)
				}
			}
			if got, ok := next.Release(fh); !ok || got != tc.h {
				t.Errorf("release: %+v %v, want %+v", got, ok, tc.h)
			}
			if got := next.OpenHandles(5); got != 0 {
				t.Errorf("%d open handles after the release", got)
			}
		})
	}
}

// The kernel, or a request that comes twice, may name a handle that is not open; another that is open has its place.
func TestDoubleRelease(t *testing.T) {
	l := fresh(t)
	first, err1 := l.Open(ledger.Handle{Node: 5}, 1)
	l.Release(first)
	second, err2 := l.Open(ledger.Handle{Node: 5}, 2)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	for _, fh := range []uint64{first, first, 0, 1, second + 1, second + 2<<32, 1<<32 | ledger.MaxHandles, 1<<64 - 1} {
		if h, ok := l.Release(fh); ok {
			t.Errorf("release of %#x: %+v", fh, h)
		}
		if h, ok := l.Handle(fh); ok {
			t.Errorf("handle %#x: %+v", fh, h)
		}
	}
	if _, ok := l.Handle(second); !ok || l.OpenHandles(5) != 1 {
		t.Errorf("the open one is gone, %d open handles", l.OpenHandles(5))
	}
	third, err := l.Open(ledger.Handle{Node: 6}, 3)
	if err != nil || ledger.Index(third) == ledger.Index(second) {
		t.Errorf("handle %#x has the place of %#x, %v", third, second, err)
	}
}

func TestNeverTheSameHandle(t *testing.T) {
	l := fresh(t)
	given := map[uint64]bool{0: true}
	for i := range 300 {
		var open []uint64
		for range 3 {
			fh, err := l.Open(ledger.Handle{Node: 5}, 1)
			if err != nil || given[fh] {
				t.Fatalf("handle %#x, given before %v, %v", fh, given[fh], err)
			}
			given[fh] = true
			open = append(open, fh)
		}
		if i%10 == 0 {
			l = reopened(t, l)
		}
		for _, fh := range open {
			l.Release(fh)
		}
	}
}

func TestHandlesFull(t *testing.T) {
	l := fresh(t)
	var last uint64
	for range ledger.MaxHandles {
		fh, err := l.Open(ledger.Handle{Node: 5}, 1)
		if err != nil {
			t.Fatal(err)
		}
		last = fh
	}
	l = reopened(t, l)
	for range 2 {
		if _, err := l.Open(ledger.Handle{Node: 5}, 1); !errors.Is(err, ledger.ErrFull) {
			t.Fatalf("got %v, want ErrFull", err)
		}
	}
	if got := l.OpenHandles(5); got != ledger.MaxHandles {
		t.Errorf("%d open handles, want %d", got, ledger.MaxHandles)
	}
	l.Release(last)
	if fh, err := l.Open(ledger.Handle{Node: 6}, 1); err != nil || fh == last {
		t.Errorf("after a release: %#x, %v", fh, err)
	}
	reopened(t, l)
}
