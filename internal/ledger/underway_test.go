package ledger_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/claudefs/claudefs/internal/ledger"
)

func TestUnderway(t *testing.T) {
	for _, tc := range []struct {
		name    string
		do      func(*ledger.Ledger)
		begun   []uint64
		highest uint64
	}{
		{"nothing", func(*ledger.Ledger) {}, nil, 0},
		{"one", func(l *ledger.Ledger) { l.Underway(8) }, []uint64{8}, 8},
		{"answered", func(l *ledger.Ledger) { l.Underway(8); l.Answered(8) }, nil, 8},
		{"another answered", func(l *ledger.Ledger) { l.Underway(8); l.Answered(10) }, []uint64{8}, 8},
		{"out of order", func(l *ledger.Ledger) { l.Underway(20); l.Underway(8); l.Answered(20) }, []uint64{8}, 20},
		{"of the same place", func(l *ledger.Ledger) {
			l.Underway(8)
			l.Underway(8 + 2*ledger.Underways)
			l.Underway(8 + 4*ledger.Underways)
			l.Answered(8 + 2*ledger.Underways)
		}, []uint64{8, 8 + 4*ledger.Underways}, 8 + 4*ledger.Underways},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := fresh(t)
			tc.do(l)
			next := reopened(t, l)
			begun, highest := next.Lost()
			slices.Sort(begun)
			if !slices.Equal(begun, tc.begun) || highest != tc.highest {
				t.Errorf("got %v, %d, want %v, %d", begun, highest, tc.begun, tc.highest)
			}
			// They are told once; the highest stays.
			if begun, highest := next.Lost(); len(begun) != 0 || highest != tc.highest {
				t.Errorf("again: got %v, %d, want none, %d", begun, highest, tc.highest)
			}
		})
	}
}

// More than are noted: the rest is counted in the highest, and the table goes on.
func TestUnderwayFull(t *testing.T) {
	l := fresh(t)
	const n = ledger.Underways + 50
	for u := uint64(1); u <= n; u++ {
		l.Underway(2 * u)
	}
	begun, highest := l.Lost()
	if len(begun) != ledger.Underways || highest != 2*n {
		t.Errorf("got %d, highest %d, want %d, %d", len(begun), highest, ledger.Underways, 2*n)
	}
	l.Underway(2 * (n + 1))
	if begun, _ := l.Lost(); !slices.Equal(begun, []uint64{2 * (n + 1)}) {
		t.Errorf("got %v", begun)
	}
}

func TestUnderwayConcurrent(t *testing.T) {
	l := fresh(t)
	var wg sync.WaitGroup
	for w := range uint64(50) {
		wg.Go(func() {
			for i := range uint64(200) {
				u := 2 * (i*50 + w + 1)
				l.Underway(u)
				if i != 199 {
					l.Answered(u)
				}
			}
		})
	}
	wg.Wait()
	begun, highest := l.Lost()
	slices.Sort(begun)
	if len(begun) != 50 || begun[0] != 2*(199*50+1) || highest != 2*200*50 {
		t.Errorf("got %v, %d", begun, highest)
	}
}
